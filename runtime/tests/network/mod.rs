//! Builds small networks for the tests.

use skimjit_models::ops::{
    Activation, Convolution, Eltwise, EltwiseOp, InnerProduct, Lrn, PoolMethod, Pooling, PostOps,
    Reshape, Rounding, Slice, Window,
};
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId};
use skimjit_testing::Noise;

/// Reproducible tensors.
pub struct Random(Noise);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }
    /// Numbers in −1 … 1, with zeros at random places.
    pub fn tensor(&mut self, dims: &[u32], density: f32) -> Tensor {
        let shape = Shape::new(dims.to_vec()).unwrap();
        let data = (0..shape.count())
            .map(|_| {
                if (self.0.value() + 1.0) / 2.0 < density {
                    self.0.value()
                } else {
                    0.0
                }
            })
            .collect();
        Tensor::new(shape, data)
    }
}

/// A network under construction.
pub struct Net {
    /// What was added so far.
    pub graph: Graph,
    random: Random,
}

impl Net {
    pub fn new(batch: u32, c: u32, h: u32, w: u32) -> (Self, ValueId) {
        let mut graph = Graph::default();
        let input = graph.add_value("data", Shape::new(vec![batch, c, h, w]).unwrap());
        graph.inputs.push(input);
        (
            Self {
                graph,
                random: Random::new(1),
            },
            input,
        )
    }
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("node{}", self.graph.nodes.len());
        self.graph
            .add_node(&name, op, inputs.to_vec(), &name)
            .unwrap()
    }
    pub fn conv(
        &mut self,
        x: ValueId,
        oc: u32,
        window: Window,
        groups: u32,
        density: f32,
        relu: bool,
    ) -> ValueId {
        let ic = self.graph.shape(x).dim(1);
        let [kh, kw] = window.kernel;
        let weights = self.random.tensor(&[oc, ic / groups, kh, kw], density);
        let weights = self.graph.add_weight(weights);
        let bias = self.random.tensor(&[oc], 1.0);
        let bias = Some(self.graph.add_weight(bias));
        let post = PostOps::from(relu.then_some(0.0));
        self.add(
            Op::Convolution(Convolution {
                window,
                oc,
                groups,
                weights,
                bias,
                post,
            }),
            &[x],
        )
    }
    pub fn fc(&mut self, x: ValueId, outputs: u32, density: f32) -> ValueId {
        let shape = self.graph.shape(x);
        let inputs = shape.count_of(1, shape.rank()) as u32;
        let weights = self.random.tensor(&[outputs, inputs], density);
        let weights = self.graph.add_weight(weights);
        let bias = self.random.tensor(&[outputs], 1.0);
        let bias = Some(self.graph.add_weight(bias));
        let post = PostOps::relu(0.0);
        let op = InnerProduct {
            outputs,
            axis: 1,
            transpose: false,
            weights,
            bias,
            post,
        };
        self.add(Op::InnerProduct(op), &[x])
    }
    fn pool(&mut self, x: ValueId, method: PoolMethod, window: Window) -> ValueId {
        let op = Pooling {
            method,
            window,
            global: false,
            made_for: None,
            rounding: Rounding::Up,
            relu: false,
            mask: false,
        };
        self.add(Op::Pooling(op), &[x])
    }
}

/// Convolutions of many kinds, pooling, LRN, residual sum, concat, slice, views, inner products.
pub fn everything(batch: u32) -> Graph {
    let (mut net, data) = Net::new(batch, 3, 31, 31);
    let square = Window::square;
    let c1 = net.conv(data, 24, square(7, 2, 0), 1, 1.0, true);
    let p1 = net.pool(c1, PoolMethod::Max, square(3, 2, 0));
    let lrn = Lrn {
        size: 5,
        alpha: 1e-2,
        beta: 0.75,
        k: 1.0,
        within_channel: false,
    };
    let n1 = net.add(Op::Lrn(lrn), &[p1]);
    let c2 = net.conv(n1, 32, square(3, 1, 1), 2, 0.2, true);
    let c3 = net.conv(n1, 32, square(5, 1, 2), 1, 0.1, false);
    let sum = Eltwise {
        op: EltwiseOp::Sum {
            coefficients: vec![1.0, 1.0],
        },
        post: PostOps::relu(0.0),
    };
    let s1 = net.add(Op::Eltwise(sum), &[c2, c3]);
    let b1 = net.conv(s1, 16, square(1, 1, 0), 1, 1.0, true);
    let b2 = net.conv(s1, 20, square(3, 1, 1), 1, 0.05, true);
    let b3 = net.pool(s1, PoolMethod::Average, square(3, 1, 1));
    let cat = net.add(Op::Concat { axis: 1 }, &[b1, b2, b3, s1]);
    let sig = net.add(Op::Activation(Activation::Sigmoid), &[cat]);
    let part = net.add(
        Op::Slice(Slice {
            axis: 1,
            begin: 10,
            end: 50,
        }),
        &[sig],
    );
    let dw = net.conv(part, 40, square(3, 1, 1), 40, 1.0, false);
    let leaky = net.add(Op::Activation(Activation::ReLU { slope: 0.1 }), &[dw]);
    let st = net.conv(leaky, 30, square(3, 2, 1), 1, 0.3, true);
    let p2 = net.pool(st, PoolMethod::Max, square(3, 2, 0));
    let rows = net.add(
        Op::Reshape(Reshape {
            dims: vec![0, -1],
            axis: 0,
            num_axes: -1,
        }),
        &[p2],
    );
    let f1 = net.fc(rows, 200, 0.1);
    let f2 = net.fc(f1, 300, 0.2);
    let f3 = net.fc(f2, 37, 1.0);
    let out = net.add(Op::Softmax { axis: 1 }, &[f3]);
    net.graph.outputs = vec![sig, f1, out];
    net.graph
}

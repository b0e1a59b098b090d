//! Makes a sparse matrix product and runs it, whole and task by task.
//!
//! cargo run --release --example kernel

use skimjit::Result;
use skimjit::kernel::{self, Csr, MatMul, Options};

const ROWS: usize = 40;
const INNER: usize = 64;
const COLUMNS: usize = 50;

/// Numbers from -1 to 1.
fn noise(state: &mut u32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// The example, for `main` and for the test that runs it: the largest difference from plain loops.
pub fn run() -> Result<f32> {
    let state = &mut 1;
    let (mut row_start, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..ROWS {
        for column in 0..INNER as u32 {
            // One weight in ten is not zero.
            if noise(state) < -0.8 {
                columns.push(column);
                values.push(noise(state));
            }
        }
        row_start.push(columns.len() as u32);
    }
    let source: Vec<f32> = (0..INNER * COLUMNS).map(|_| noise(state)).collect();
    let weights = Csr {
        row_start: &row_start,
        columns: &columns,
        values: &values,
    };
    let problem = MatMul::new(ROWS as u32, INNER as u32, COLUMNS as u32);
    let product = kernel::spmm(&problem, weights, &[], &Options::default())?;
    println!(
        "{} on {}: {} bytes of code, {} tasks",
        product.variant(),
        product.isa(),
        product.code().len(),
        product.tasks()
    );

    // Creating it again costs a hash of the weights.
    let again = kernel::spmm(&problem, weights, &[], &Options::default())?;
    assert!(product.is(&again));

    let mut memory = product.memory();
    memory.pack_src(&source)?;
    // Tasks write disjoint parts of the result, in any order.
    for task in (0..product.tasks()).rev() {
        memory.run_tasks(task..task + 1);
    }
    let mut result = vec![0.0; ROWS * COLUMNS];
    memory.unpack_dst(&mut result)?;

    let mut worst = 0.0f32;
    for (row, line) in result.chunks(COLUMNS).enumerate() {
        let range = row_start[row] as usize..row_start[row + 1] as usize;
        for (x, &found) in line.iter().enumerate() {
            let product = |k: usize| values[k] * source[columns[k] as usize * COLUMNS + x];
            let expected: f32 = range.clone().map(product).sum();
            worst = worst.max((found - expected).abs());
        }
    }
    Ok(worst)
}

fn main() -> Result<()> {
    println!("largest difference {}", run()?);
    Ok(())
}

//! Runs a network from several threads at once.
//!
//! cargo run --release --example embed -- net.caffemodel input.npy [deploy.prototxt]

use skimjit::{CompileOptions, Engine, Error, LoadOptions, Model, Result, ThreadPool, array};
use std::path::PathBuf;
use std::sync::Arc;

/// Threads that run the network, each on its own.
const THREADS: usize = 2;

/// Best class of each image, and its score.
type Classes = Vec<(usize, f32)>;

/// What one thread does: a session is for one thread, the engine for all.
fn classify(engine: &Engine, input: &[f32]) -> Result<Classes> {
    // A team of one: this thread. Sessions of different teams do not wait for each other.
    let team = Arc::new(ThreadPool::new(1).map_err(Error::Usage)?);
    let mut session = engine.session_on(&team);
    let (source, target) = (&engine.plan().inputs[0], &engine.plan().outputs[0]);
    let images = input.len() / source.elems;
    let mut scores = vec![0.0; images * target.elems];
    // No copies: the arrays are the caller's.
    session.run(&[input], &mut [&mut scores])?;
    let best = |scores: &[f32]| {
        let all = scores.iter().copied().enumerate();
        all.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    };
    Ok(scores.chunks(target.elems).map(best).collect())
}

/// The example, for `main` and for the test that runs it.
pub fn run(arguments: &[String]) -> Result<Classes> {
    let [model, input, rest @ ..] = arguments else {
        return Err(Error::Usage(
            "found too few files, expected MODEL INPUT.npy [PROTOTXT]".into(),
        ));
    };
    let options = LoadOptions {
        prototxt: rest.first().map(PathBuf::from),
        ..LoadOptions::default()
    };
    let model = Model::load(model.as_ref(), &options)?;
    let engine = model.compile(&CompileOptions {
        batch: Some(1),
        threads: 1,
        ..CompileOptions::default()
    })?;
    let input = array::read_npy(input.as_ref())?;
    let results: Vec<Result<Classes>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| classify(&engine, input.data())))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|result| result.expect("no thread panics"))
            .collect()
    });
    let mut results = results.into_iter().collect::<Result<Vec<Classes>>>()?;
    assert!(
        results.windows(2).all(|pair| pair[0] == pair[1]),
        "same bits"
    );
    Ok(results.swap_remove(0))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for (class, score) in run(&arguments)? {
        println!("{class} {score}");
    }
    Ok(())
}

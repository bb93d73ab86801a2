//! A thousand seeds of the simulation hold what is promised; the same seed tells the same story, byte for byte.

use millstream_tests::simulation::{Simulation, Trace, run_seeds};

#[test]
fn a_thousand_seeds_hold_what_is_promised() {
    let summary = run_seeds(0..1_000, |_| {});
    let failures: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} of 1,000 seeds fail\n{}", failures.len(), failures.join("\n"));
    // What never happens is not simulated.
    let sum = summary.sum;
    assert!(sum.ends > 1_000 && sum.errors > 500 && sum.takeovers > 300 && sum.records > 50_000, "{sum:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..20 {
        let story = || {
            let trace = Trace::kept();
            let told = Simulation::run(seed, &trace).map_err(|failure| failure.what);
            (told, trace.text())
        };
        let (first, second) = (story(), story());
        let differs = first.1.iter().zip(&second.1).position(|(a, b)| a != b);
        let lines = differs.map(|at| (&first.1[at], &second.1[at]));
        assert_eq!(differs, None, "seed {seed}: {lines:?}");
        assert!(first.1.len() > 100 && first == second, "seed {seed}");
    }
}

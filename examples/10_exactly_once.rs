//! 10: exactly once. Payments are added up, and in the middle the process dies: no destructor runs, nothing is committed
//! any more. Started again, the program takes up its last commit, and every payment counts once.
//!
//! ```console
//! $ seq 1 50000 | DIE_AT=50000 cargo run -q --bin 10_exactly_once -- --stdin payments || echo "it died"
//! it died
//! $ cargo run -q --bin 10_exactly_once -- --stdin payments </dev/null
//! $ echo 1000 | cargo run -q --bin 10_exactly_once -- --stdin payments --stdout till
//! all    {"payments":50001,"sum":1250026000}
//! ```
//!
//! Input positions, results and changes of the table are one transaction of the log, ten times a second. The first run
//! has committed some of the payments, which no one can say in advance. The second finds the rest in the log; the third
//! brings one payment more. A till that had lost one or counted one twice would show other numbers than
//! 50000 + 1 and 50000 · 50001 / 2 + 1000.

use millstream::prelude::*;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Till {
    payments: i64,
    sum: i64,
}
millstream::json!(Till);

fn till(die_at: Option<i64>) -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("payments")
        .flat_map_values(|line| line.parse::<i64>())
        .group_by("by-till", |_, _| "all".to_owned())
        .aggregate("till", Till::default, |_, amount, till| {
            till.payments += 1;
            till.sum += amount;
        })
        .to_stream()
        .peek(move |_, till| {
            let payments = till.as_ref().map(|till| till.payments);
            if die_at.is_some() && payments == die_at {
                std::process::exit(1);
            }
        })
        .to("till");
    b.build()
}

fn main() -> Result<()> {
    let die_at = std::env::var("DIE_AT").ok().and_then(|at| at.parse().ok());
    millstream::run("till", till(die_at)?)
}

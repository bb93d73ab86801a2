//! What is kept for too short a time would give wrong results without a word: a retention below what windows need, or a
//! history below the grace of a join, stops the program from being built.

use std::time::Duration;

use millstream_dsl::{Joined, SECOND, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows};

/// What the program is refused for.
fn problem(program: impl FnOnce(&StreamsBuilder)) -> String {
    let b = StreamsBuilder::new();
    program(&b);
    b.build().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn windows_need_their_size_and_grace() {
    let keeps = |retention: Duration| {
        problem(|b| {
            let windows = TimeWindows::of(10 * SECOND).grace(SECOND);
            b.stream::<String, i64>("in").group_by_key().windowed_by(windows).retention(retention).count("counts");
        })
    };
    assert!(keeps(Duration::from_millis(10_999)).contains("size and grace need at least 11000 ms"));
    assert_eq!(keeps(11 * SECOND), "");
}

#[test]
fn sliding_windows_need_twice_their_difference_and_grace() {
    let keeps = |retention: Duration| {
        problem(|b| {
            let windows = SlidingWindows::of(10 * SECOND).grace(SECOND);
            b.stream::<String, i64>("in").group_by_key().windowed_by(windows).retention(retention).count("counts");
        })
    };
    assert!(keeps(Duration::from_millis(20_999)).contains("need at least 21000 ms"));
    assert_eq!(keeps(21 * SECOND), "");
}

#[test]
fn sessions_need_their_gap_and_grace() {
    let keeps = |retention: Duration| {
        problem(|b| {
            let windows = SessionWindows::of(10 * SECOND).grace(SECOND);
            b.stream::<String, i64>("in").group_by_key().windowed_by(windows).retention(retention).count("counts");
        })
    };
    assert!(keeps(Duration::from_millis(10_999)).contains("gap and grace need at least 11000 ms"));
    assert_eq!(keeps(11 * SECOND), "");
}

#[test]
fn a_join_with_grace_needs_a_history_as_long() {
    let joins = |history: Duration| {
        problem(|b| {
            let prices = b.versioned_table::<String, i64>("prices", "prices", history);
            let orders = b.stream::<String, i64>("orders");
            orders.join_table(Joined::named("priced").grace(10 * SECOND), &prices, |n, price| n * price).to("out");
        })
    };
    let refused = joins(Duration::from_millis(9_999));
    let said = "join `priced` waits for 10000 ms, and its table keeps a history of 9999 ms\n  help: ";
    assert!(refused.contains(said), "{refused}");
    assert_eq!(joins(10 * SECOND), "");
}

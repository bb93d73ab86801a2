//! 04: sessions. The pages that visitors of a shop look at become visits: a visit ends when half an hour passes without a
//! page. A page that arrives late may show that two visits were one; they are withdrawn, and the whole visit follows.
//!
//! ```console
//! $ cargo run -q --bin 04_sessions
//! ann looks at /hats, 09:00
//!   ann 09:00-09:00: /hats
//! ann looks at /coats, 09:20
//!   ann 09:00-09:00: withdrawn
//!   ann 09:00-09:20: /hats /coats
//! ann looks at /pay, 10:00
//!   ann 10:00-10:00: /pay
//! bob looks at /hats, 10:05
//!   bob 10:05-10:05: /hats
//! ann looks at /cart, 09:45
//!   ann 09:00-09:20: withdrawn
//!   ann 10:00-10:00: withdrawn
//!   ann 09:00-10:00: /hats /coats /pay /cart
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

fn visits() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("pages")
        .group_by_key()
        .windowed_by(SessionWindows::of(30 * MIN).grace(HOUR))
        .aggregate(
            "visits",
            String::new,
            |_, page, visit| *visit = join(visit, &page),
            // Two visits that turn out to be one.
            |_, first, next| join(&first, &next),
        )
        .to_stream()
        .to("visits");
    b.build()
}

fn join(visit: &str, more: &str) -> String {
    format!("{visit} {more}").trim().to_owned()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(visits()?)?;
    let pages = t.input::<String, String>("pages")?;
    let visits = t.output::<Windowed<String>, Option<String>>("visits")?;
    let looks = [
        ((9, 0), "ann", "/hats"),
        ((9, 20), "ann", "/coats"),
        ((10, 0), "ann", "/pay"),
        ((10, 5), "bob", "/hats"),
        ((9, 45), "ann", "/cart"),
    ];
    for ((hour, minute), who, page) in looks {
        println!("{who} looks at {page}, {}", time(at(hour, minute)));
        pages.pipe_at(at(hour, minute), who, page);
        for (Windowed { key, window }, visit) in visits.read() {
            let visit = visit.unwrap_or("withdrawn".to_owned());
            println!("  {key} {}-{}: {visit}", time(window.start), time(window.end));
        }
    }
    Ok(())
}

/// Milliseconds since midnight.
fn at(hour: i64, minute: i64) -> Timestamp {
    (hour * 60 + minute) * 60_000
}

fn time(ms: Timestamp) -> String {
    format!("{:02}:{:02}", ms / 3_600_000, ms / 60_000 % 60)
}

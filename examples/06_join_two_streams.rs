//! 06: join two streams. An order and its payment belong together if they are at most ten minutes apart. A left join also
//! passes on the orders that nobody paid, as soon as it is certain that nobody will.
//!
//! ```console
//! $ cargo run -q --bin 06_join_two_streams
//! 09:00 order   o1: a hat
//! 09:01 order   o2: a coat
//! 09:04 payment o1: by card      => o1: a hat, paid by card
//! 09:05 payment o3: in cash
//! 09:07 order   o3: a bag        => o3: a bag, paid in cash
//! 09:30 order   o4: a scarf      => o2: a coat, NOT PAID
//! 09:31 payment o2: by card
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use millstream::prelude::*;

fn paid_orders() -> Result<Topology> {
    let b = StreamsBuilder::new();
    let orders = b.stream::<String, String>("orders");
    let payments = b.stream::<String, String>("payments");
    orders
        .left_join("paid", &payments, JoinWindows::of(10 * MIN).grace(5 * MIN), |order, payment| match payment {
            Some(payment) => format!("{order}, paid {payment}"),
            None => format!("{order}, NOT PAID"),
        })
        .to("paid-orders");
    b.build()
}

fn main() -> Result<()> {
    let t = TopologyTestDriver::new(paid_orders()?)?;
    let orders = t.input::<String, String>("orders")?;
    let payments = t.input::<String, String>("payments")?;
    let paid = t.output::<String, String>("paid-orders")?;
    let day = [
        ((9, 0), "order", "o1", "a hat"),
        ((9, 1), "order", "o2", "a coat"),
        ((9, 4), "payment", "o1", "by card"),
        // A payment may come first.
        ((9, 5), "payment", "o3", "in cash"),
        ((9, 7), "order", "o3", "a bag"),
        // Time has moved on: the window of o2 and its grace are over, and its payment comes too late to be joined.
        ((9, 30), "order", "o4", "a scarf"),
        ((9, 31), "payment", "o2", "by card"),
    ];
    for ((hour, minute), kind, id, what) in day {
        let topic = if kind == "order" { &orders } else { &payments };
        topic.pipe_at((hour * 60 + minute) * 60_000, id, what);
        let joined: Vec<String> = paid.read().into_iter().map(|(id, order)| format!("{id}: {order}")).collect();
        let came = format!("{hour:02}:{minute:02} {kind:7} {id}: {what}");
        println!("{}", if joined.is_empty() { came } else { format!("{came:30} => {}", joined.join("; ")) });
    }
    Ok(())
}

//! 01: keep some records and make others of them. The requests of a web server come in, its failures go out.
//!
//! ```console
//! $ printf 'GET /cart 200 31\nPOST /pay 503 2004\nhello\n' | cargo run -q --bin 01_filter_and_map -- --stdin requests --stdout failures
//! /pay    503 after 2004 ms
//! ```

use millstream::prelude::*;

#[derive(Clone)]
struct Request {
    path: String,
    status: u16,
    millis: u32,
}

impl Request {
    /// `METHOD PATH STATUS MILLISECONDS`, or none.
    fn parse(line: &str) -> Option<Request> {
        let mut words = line.split(' ').skip(1);
        let (path, status, millis) = (words.next()?.to_owned(), words.next()?, words.next()?);
        Some(Request { path, status: status.parse().ok()?, millis: millis.parse().ok()? })
    }
}

fn failures() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.stream::<Option<String>, String>("requests")
        // An `Option` is none or one: a line that is no request gives none.
        .flat_map_values(|line| Request::parse(&line))
        .filter(|_, request| request.status >= 500)
        .map(|_, request| (request.path, format!("{} after {} ms", request.status, request.millis)))
        .to("failures");
    b.build()
}

fn main() -> Result<()> {
    millstream::run("failures", failures()?)
}

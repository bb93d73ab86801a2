//! A part of a benchmark in a process of its own: its peak memory is then its alone, and nothing that ran before it has warmed
//! anything up. It answers with one line of JSON.

use std::process::{Command, Stdio};

use millstream_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first argument of such a process.
pub(crate) const COMMAND: &str = "part";

/// What the answer's line begins with.
const ANSWER: &str = "answer: ";

/// Runs a part, and returns what it answers.
///
/// # Errors
/// When it ends without an answer; it has said why.
pub(crate) fn run<T: DeserializeOwned>(part: &str, scale: f64) -> Result<T> {
    let program = std::env::current_exe().map_err(Error::user)?;
    let mut command = Command::new(program);
    command.args([COMMAND, part, &scale.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(Error::user)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find_map(|line| line.strip_prefix(ANSWER));
    let answer = answer.ok_or_else(|| Error::user(format!("{part}: {}\n{}", output.status, text.trim_end())))?;
    serde_json::from_str(answer).map_err(Error::user)
}

/// Answers, as such a process.
#[expect(clippy::print_stdout, reason = "the parent reads it there")]
pub(crate) fn answer<T: Serialize>(answer: &T) -> Result<()> {
    println!("{ANSWER}{}", serde_json::to_string(answer).map_err(Error::user)?);
    Ok(())
}

//! A broker and the stream threads of its programs in one thread, on virtual time: one seed decides everything, from the
//! program and its input to who is killed when and which disk fails.
//!
//! ```text
//!   seed ─► Plot ─► Simulation: records in, steps, clock, faults, ends ─► quiet ─► outputs = the reference interpreter's
//!                        └─ after every event: order, last stable offset, what was acknowledged is there
//! ```
//!
//! What is promised, and so checked, is said at [`Simulation::run`]. The same seed gives the same [`Trace`].

mod dice;
mod network;
mod plot;
mod process;
mod program;
mod run;
mod seeds;
mod sim_disk;
mod topic;
mod trace;
mod traced_files;

pub use dice::Dice;
pub use run::{Failure, Report, Simulation};
pub use seeds::{Summary, run_seeds};
pub use sim_disk::{Mishaps, SimDisk};
pub use trace::Trace;

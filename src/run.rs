//! `run`: a program's whole `main`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Bound, Error, Log, ProcessingGuarantee, Result, Settings, StateDisk, Streams, SystemClock, ThreadContext,
    TopicName, Topology,
};

use crate::console::{Printer, check_topic, feed};
use crate::open_files::raise_open_files;
use crate::restoring::Restoring;

/// How often is looked whether an application that is fed has failed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Flags of [`run`] besides the settings.
const FLAGS: [&str; 3] = ["stdin", "stdout", "help"];

/// Runs a topology until it is stopped (Ctrl-C), with settings from `app.properties`, from variables such as
/// `MILLSTREAM_NUM_STREAM_THREADS`, and from flags such as `--num.stream.threads=2`.
///
/// With `--stdin TOPIC` the lines of standard input become records of a topic, and the program ends when they do. With
/// `--stdout TOPIC` the records of a topic are printed as they come.
///
/// # Errors
/// Wrong settings, a topology that does not fit the log, or what stopped the application.
pub fn run(application_id: &str, topology: Topology) -> Result<()> {
    run_with(application_id, topology, Settings::new())
}

/// As [`run`], with settings of the program's own below those of file, environment and flags.
///
/// # Errors
/// As [`run`].
pub fn run_with(application_id: &str, topology: Topology, mut settings: Settings) -> Result<()> {
    raise_open_files();
    let file = PathBuf::from("app.properties");
    match std::fs::read_to_string(&file) {
        Ok(text) => settings.read_properties(&file, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => settings.problem(format!("cannot read {}: {error}", file.display())),
    }
    // Of another program's variables and their bytes nothing is asked.
    let text = |os: OsString| os.to_string_lossy().into_owned();
    settings.read_environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))));
    let own = settings.read_flags(std::env::args_os().skip(1).map(text), &FLAGS);
    let own = |name: &str| own.iter().rfind(|(flag, _)| flag == name).map(|(_, value)| value.clone());
    if own("help").is_some() {
        let mut out = std::io::stdout().lock();
        for (flag, meaning) in [
            ("stdin TOPIC", "lines of standard input become records of a topic; the program ends when they do"),
            ("stdout TOPIC", "prints the records of a topic as they come"),
        ] {
            writeln!(out, "--{flag:<38} {meaning}").map_err(Error::user)?;
        }
        for (key, meaning) in millstream_core::SETTINGS {
            writeln!(out, "--{key:<38} {meaning}").map_err(Error::user)?;
        }
        return Ok(());
    }
    let clock = Arc::new(SystemClock::default());
    let id = settings.get("application.id").map_or(application_id, |(id, _)| id).to_owned();
    let options = broker_options(&id, &mut settings, clock.clone());
    let state = state_folder(&id, &mut settings);
    let mut config = settings.config(application_id)?;
    let wanted = topology.wants_disk().map(|store| format!("store `{}` is to be on disk", store.name));
    if let Some(why) = state.on_disk.then(|| "`default.dsl.store` is `rocksDB`".to_owned()).or(wanted) {
        let disk = state_disk(&state.folder, state.rows, &why, &mut settings)?;
        (config.disk, config.in_memory) = (Some(disk), !state.on_disk);
    }
    settings.warnings().iter().chain(topology.warnings()).for_each(|warning| eprintln!("warning: {warning}"));
    if let Some((servers, origin)) = settings.get("bootstrap.servers") {
        return Err(Error::Config(Box::new(vec![format!(
            "bootstrap.servers={servers} ({origin}): this build runs on the embedded log only\n  help: leave bootstrap.servers out"
        )])));
    }
    let log = Broker::open(options)?;
    let guarantee = match config.guarantee {
        ProcessingGuarantee::AtLeastOnce => "at_least_once",
        ProcessingGuarantee::ExactlyOnceV2 => "exactly_once_v2",
    };
    let interval = config.commit_interval;
    let mut streams = Streams::new(topology, config, Arc::new(log.clone()) as Arc<dyn Log>, clock.clone())?;
    streams.on_held_up(|error| eprintln!("waiting: {error}"));
    streams.on_restore(Restoring::new(clock, |line| eprintln!("{line}")));
    let context = streams.context();
    context.plan.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    eprintln!(
        "{}: {} on {}, {guarantee} every {interval:?}",
        context.config.application_id,
        counted(context.plan.tasks.len(), "task"),
        counted(context.config.threads.min(context.plan.tasks.len()).max(1), "thread")
    );
    let read: BTreeSet<String> = inputs(&context).collect();
    if let Some(topic) = own("stdin") {
        check_topic(&log, "--stdin", &topic, "the program does not read this topic", |name| read.contains(name))?;
    }
    if let Some(topic) = own("stdout") {
        check_topic(&log, "--stdout", &topic, "this is a topic of the log itself", |name| !name.starts_with("__"))?;
    }
    let printer = own("stdout").map(|topic| Printer::start(&log, &topic, &context)).transpose()?;
    let (stopper, main) = (streams.stopper(), std::thread::current());
    let stopped = main.clone();
    // A second handler in one process is refused; the program then keeps its own.
    let _already_set = ctrlc::set_handler(move || {
        stopper.stop();
        stopped.unpark();
    });
    streams.start()?;
    if let Some(topic) = own("stdin") {
        let log = log.clone();
        let feeding = std::thread::spawn(move || {
            let fed = feed(&log, &topic, std::io::stdin().lock());
            main.unpark();
            fed
        });
        // An application that is stopped, or has failed, waits for no more lines.
        while !feeding.is_finished() && !streams.state().has_started_or_finished_shutting_down() {
            std::thread::park_timeout(LOOK_EVERY);
        }
        if feeding.is_finished() {
            feeding.join().map_err(|_| Error::user("reading standard input failed"))??;
            streams.drain()?;
        }
    }
    streams.join()?;
    if let Some(printer) = printer {
        printer.finish()?;
    }
    Ok(log.close()?)
}

/// The user's topics that the program reads.
fn inputs(context: &ThreadContext) -> impl Iterator<Item = String> {
    let (plan, topology) = (&context.plan, &context.topology);
    let id = &context.config.application_id;
    let own: BTreeSet<String> =
        topology.repartitions().iter().map(|r| TopicName::Repartition(r.name.clone()).resolve(id)).collect();
    let inputs = plan.tasks.iter().chain([&plan.globals]).flat_map(|task| &task.inputs);
    inputs.map(|(partition, _)| partition.topic.to_string()).filter(move |topic| !own.contains(topic))
}

/// The log in this process that settings describe: in `data.dir`, `./<application.id>-data` unless it is set.
///
/// # Errors
/// When the folder cannot be used, or a setting is wrong.
pub fn embedded_log(application_id: &str, settings: &mut Settings, clock: Arc<SystemClock>) -> Result<Broker> {
    let options = broker_options(application_id, settings, clock);
    settings.check()?;
    Ok(Broker::open(options)?)
}

/// Where the settings say that state lies.
struct StateFolder {
    folder: PathBuf,
    /// All of it is on disk, and not just what the program says.
    on_disk: bool,
    /// Bytes of it that stay in memory too.
    rows: Option<usize>,
}

fn state_folder(application_id: &str, settings: &mut Settings) -> StateFolder {
    let on_disk = settings.one_of("default.dsl.store", &[("in_memory", false), ("rocksDB", true)]).unwrap_or(false);
    let rows: Option<usize> = settings.parsed("statestore.cache.max.bytes", "a number of bytes");
    let folder = settings.folder("state.dir").unwrap_or_else(|| data_dir(application_id, settings).join("state"));
    let folder = folder.join(application_id);
    StateFolder { folder, on_disk, rows }
}

#[cfg(feature = "rocksdb")]
fn state_disk(folder: &Path, rows: Option<usize>, _why: &str, settings: &mut Settings) -> Result<Arc<dyn StateDisk>> {
    let mut options = millstream_state::RocksOptions::default();
    options.rows = rows.unwrap_or(options.rows);
    let disk = millstream_state::RocksDisk::new(folder, options)?;
    disk.warnings().iter().for_each(|warning| settings.warning(warning.clone()));
    Ok(Arc::new(disk))
}

#[cfg(not(feature = "rocksdb"))]
fn state_disk(_folder: &Path, _rows: Option<usize>, why: &str, _settings: &mut Settings) -> Result<Arc<dyn StateDisk>> {
    Err(Error::Config(Box::new(vec![format!(
        "{why}, and this program was built without it\n  help: add the feature: millstream = {{ features = [\"rocksdb\"] }}"
    )])))
}

fn data_dir(application_id: &str, settings: &mut Settings) -> PathBuf {
    settings.folder("data.dir").unwrap_or_else(|| format!("{application_id}-data").into())
}

fn broker_options(application_id: &str, settings: &mut Settings, clock: Arc<SystemClock>) -> BrokerOptions {
    let dir = data_dir(application_id, settings);
    let mut options = BrokerOptions::new(dir, clock);
    let durabilities = [("memory", Durability::Memory), ("os", Durability::Os), ("disk", Durability::Disk)];
    if let Some(durability) = settings.one_of("durability", &durabilities) {
        options.durability = durability;
    }
    if options.durability == Durability::Memory {
        options.tail_bytes = usize::MAX;
    }
    if let Some(SegmentBytes(bytes)) = settings.parsed("log.segment.bytes", SegmentBytes::WANTED) {
        options.segment_bytes = bytes;
    }
    if let Some(Bound(ms)) = settings.parsed("log.retention.ms", Bound::WANTED) {
        options.retention_ms = ms;
    }
    options
}

/// As small and as large as `segment.bytes` of a topic may be: below, a file is hardly more than one batch, and the files are many;
/// above, an index cannot say a place.
struct SegmentBytes(u64);

impl SegmentBytes {
    const WANTED: &str = "a number of bytes, 1024 to 2147483647";
}

impl FromStr for SegmentBytes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|bytes| (1024..=i32::MAX as u64).contains(bytes)).map(SegmentBytes).ok_or(())
    }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

//! Values that are checked while they are read, so that a refusal knows its line and column.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use orchestra_types::{
    RunnerName, collector,
    id::is_name,
    limits,
    runner::{FURTHER_RUNNERS, KNOWN_RUNNERS},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use crate::{Prefetch, RunnerConfig, message, number};

/// Most agents at once.
const SLOTS_MAX: u32 = 100_000;
/// What a host with its port is refused with.
const HOST_AND_PORT: &str = "must be of the form HOST:PORT, as head.example:7117";
/// What is wrong with one that means every address.
const NOT_ALL: &str = "must be what other machines reach this one by, as head.example:7117; 0.0.0.0 and [::] mean \
     every address, which only head.listen can";
/// Most tasks that may wait.
const QUEUE_MAX: u64 = 10_000_000;
/// Longest time that anything is kept for.
const KEPT_FOR_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Shortest lease.
const LEASE_MIN: Duration = Duration::from_secs(2);
/// Longest lease.
const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest time for agents to end: each rung of the stop ladder gets a part of it.
const STOP_WITHIN_MIN: Duration = Duration::from_secs(1);
/// Longest time for agents to end: a service manager has given the worker up long before.
const STOP_WITHIN_MAX: Duration = Duration::from_secs(3600);
/// Largest size, 1024TiB: more than any machine has, and far from where sums of sizes end.
const SIZE_MAX: u64 = 1 << 50;
/// Longest short text.
const TEXT_BYTES_MAX: usize = 4096;

/// `30m`, `90s`, `1h`, `250ms`; more than zero, at most 30 days.
pub(crate) fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let duration = any_duration(d)?;
    if duration.is_zero() {
        return Err(D::Error::custom("must be longer than zero"));
    }
    Ok(duration)
}

/// A lease: long enough for a few heartbeats, and short enough that lost work is noticed on its day.
pub(crate) fn lease<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let lease = any_duration(d)?;
    if lease < LEASE_MIN || lease > LEASE_MAX {
        return Err(D::Error::custom("must be 2s to 24h"));
    }
    Ok(lease)
}

/// How long running agents may take to end when their worker is stopped, as `30s`.
///
/// # Errors
/// When it is no duration, or not 1s to 1h; the text says what may be there.
pub fn stop_within(text: &str) -> Result<Duration, String> {
    match orchestra_types::time::parse_duration(text) {
        Ok(within) if (STOP_WITHIN_MIN..=STOP_WITHIN_MAX).contains(&within) => Ok(within),
        Ok(_) => Err("must be 1s to 1h, as 30s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Like [`stop_within`], or absent.
pub(crate) fn optional_stop_within<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(d)?;
    stop_within(&text).map(Some).map_err(D::Error::custom)
}

/// Like [`duration`], or zero.
pub(crate) fn any_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    let duration = orchestra_types::time::parse_duration(&text).map_err(D::Error::custom)?;
    if duration > limits::TIMEOUT_MAX {
        return Err(D::Error::custom("must be at most 30d"));
    }
    Ok(duration)
}

/// How long something is kept: more than zero, at most ten years.
pub(crate) fn long_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    kept_for(d, Duration::from_millis(1), "must be longer than zero")
}

/// How long stored bytes are kept that nothing refers to. An hour at least: a task may still be on
/// its way whose files are here already.
pub(crate) fn uploads_for<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    kept_for(d, Duration::from_secs(3600), "must be at least 1h")
}

fn kept_for<'de, D: Deserializer<'de>>(
    d: D,
    min: Duration,
    too_short: &str,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    let duration = orchestra_types::time::parse_duration(&text).map_err(D::Error::custom)?;
    if duration < min {
        return Err(D::Error::custom(too_short));
    }
    if duration > KEPT_FOR_MAX {
        return Err(D::Error::custom("must be at most 3650d"));
    }
    Ok(duration)
}

/// 0 to 10,000,000 finished tasks, or outputs of tasks.
pub(crate) fn finished_max<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    number::whole(d, 0..=QUEUE_MAX)?.ok_or_else(missing)
}

/// At least `64MiB`: a few segments.
pub(crate) fn events_bytes<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    size(d, 64 << 20, "must be at least 64MiB")
}

/// At least `1MiB`.
pub(crate) fn attempt_bytes<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    size(d, 1 << 20, "must be at least 1MiB")
}

/// At least `16MiB`, or absent.
pub(crate) fn optional_memory<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    size(d, 16 << 20, "must be at least 16MiB").map(Some)
}

/// At least `1MiB`, or absent.
pub(crate) fn optional_output<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    size(d, 1 << 20, "must be at least 1MiB").map(Some)
}

/// 16 to 4,000,000 processes.
pub(crate) fn processes<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    number::whole(d, 16..=4_000_000)
}

/// Processors, in thousandths: 0.01 to 10,000 of them.
pub(crate) fn processors<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    let Some(processors) = Option::<f64>::deserialize(d)? else {
        return Ok(None);
    };
    if !(0.01..=10_000.0).contains(&processors) {
        return Err(D::Error::custom("must be 0.01 to 10000"));
    }
    // In range and positive: nothing is lost but the fourth digit.
    Ok(Some((processors * 1000.0).round() as u64))
}

/// Bytes, none allowed.
pub(crate) fn any_size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    size(d, 0, "")
}

/// `512MiB`, `8GiB`: a whole number and its unit.
fn size<'de, D: Deserializer<'de>>(d: D, min: u64, too_small: &str) -> Result<u64, D::Error> {
    let text = String::deserialize(d)?;
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let bytes = units.into_iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number.saturating_mul(1 << shift))
    });
    match bytes {
        None => Err(D::Error::custom(
            "must be a whole number with KiB, MiB, GiB or TiB, as 512MiB",
        )),
        Some(bytes) if bytes < min => Err(D::Error::custom(too_small)),
        Some(bytes) if bytes > SIZE_MAX => Err(D::Error::custom("must be at most 1024TiB")),
        Some(bytes) => Ok(bytes),
    }
}

/// A duration that may be absent.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Present(#[serde(deserialize_with = "duration")] Duration);
    Ok(Option::<Present>::deserialize(d)?.map(|p| p.0))
}

/// An amount of US dollars, as `3`, `0.25` or `3usd`, in millionths.
pub(crate) fn usd<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
    }
    let text = match Written::deserialize(d)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    orchestra_types::budget::usd(&text).map_err(D::Error::custom)
}

/// Like [`usd`], or absent.
pub(crate) fn optional_usd<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    usd(d).map(Some)
}

/// 1 to 100,000 agents.
pub(crate) fn slots<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    number::narrow(d, 1..=SLOTS_MAX)
}

/// `auto`, or 0 to 100,000 attempts.
pub(crate) fn prefetch<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Prefetch>, D::Error> {
    let written = number::whole_or_word(d, 0..=u64::from(SLOTS_MAX), "auto")?;
    let meant = written.map(|number| number.map(u32::try_from).transpose());
    Ok(match meant {
        None => None,
        Some(Ok(None)) => Some(Prefetch::Auto),
        Some(Ok(Some(number))) => Some(Prefetch::Fixed(number)),
        Some(Err(_)) => return Err(D::Error::custom("the number is too large")),
    })
}

/// 1 to 10,000,000 tasks.
pub(crate) fn queue_max<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    number::whole(d, 1..=QUEUE_MAX)
}

/// 0 to 1,000,000 megabytes.
pub(crate) fn megabytes<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    number::whole(d, 0..=1_000_000)
}

/// 0 to `RETRIES_MAX` retries.
pub(crate) fn retries<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    number::narrow(d, 0..=limits::RETRIES_MAX)?.ok_or_else(missing)
}

/// What is said of a key without its value.
fn missing<E: Error>() -> E {
    E::custom("the value is missing")
}

/// `IP:PORT`; the port may be 0.
pub(crate) fn listen<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(d)?;
    text.map(|text| listen_address(&text).map_err(D::Error::custom))
        .transpose()
}

/// `IP:PORT` to listen on.
///
/// # Errors
/// When it is something else; the text has examples.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not an address of the form IP:PORT, as 127.0.0.1:7117 or [::]:7117",
            limits::cut(text, 64)
        )
    })
}

/// `HOST:PORT`.
pub(crate) fn host_and_port<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(d)?;
    text.map(|text| advertised(&text).map_err(D::Error::custom))
        .transpose()
}

/// `HOST:PORT` that is named on a command line.
pub fn advertised(text: &str) -> Result<String, &'static str> {
    if !is_host_and_port(text) {
        return Err(HOST_AND_PORT);
    }
    if means_all(text) {
        return Err(NOT_ALL);
    }
    Ok(text.to_owned())
}

/// Whether the host is an address that can only be listened on.
fn means_all(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    ip.is_ok_and(|ip| ip.is_unspecified())
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        !host.is_empty() && !host.contains(odd) && port.parse::<u16>().is_ok_and(|p| p != 0)
    })
}

/// A text that is not empty and has no control characters.
pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(d)?;
    checked(
        text,
        |text| is_text(text),
        "must be 1 to 4096 bytes without control characters",
    )
}

/// `http://…` or `https://…`.
pub(crate) fn url<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(d)?;
    let fits = |text: &String| {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        is_text(text) && rest.is_some_and(|r| !r.is_empty() && !r.contains(char::is_whitespace))
    };
    checked(text, fits, "must begin with http:// or https://")
}

/// The same, of a collector of telemetry: what the head and the workers would not start with.
pub(crate) fn collector<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let address = url(d)?;
    if let Some(address) = &address {
        collector::check(address.trim()).map_err(D::Error::custom)?;
    }
    Ok(address)
}

/// A level, or a filter as `RUST_LOG` takes it. One bare word that is no level would be the name of a target,
/// and everything else would be silent.
pub(crate) fn log_filter<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = Option::<String>::deserialize(d)?;
    let fits = |text: &String| {
        let level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        let mut parts = text.split(',').map(str::trim);
        is_text(text) && parts.all(|part| level(part) || part.contains('=') || part.contains("::"))
    };
    let why = "must be one of error, warn, info, debug, trace and off, or a filter as `info,orchestra_head=debug`";
    checked(text, fits, why)
}

/// The name of an environment variable.
pub(crate) fn env_name<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(d)?;
    checked(
        text,
        |name| is_env_name(name),
        "must be the name of an environment variable, not its value",
    )
}

/// `anthropic` or `openai`.
pub(crate) fn provider<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    const PROVIDERS: [&str; 2] = ["anthropic", "openai"];
    let text = String::deserialize(d)?;
    if PROVIDERS.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(D::Error::custom(message::unknown(
            "value", &text, &PROVIDERS,
        )))
    }
}

/// An absolute path.
pub(crate) fn absolute_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    let path = Option::<PathBuf>::deserialize(d)?;
    checked(path, |p| p.is_absolute(), "must be an absolute path")
}

/// A directory below the project: relative, without `..`, not inside `.git`.
pub(crate) fn directory_below<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    let ordinary = |c: Component<'_>| matches!(c, Component::Normal(name) if name != ".git");
    let path = Path::new(&text);
    if is_text(&text) && path.components().all(ordinary) && !text.ends_with('/') {
        Ok(text)
    } else {
        Err(D::Error::custom(
            "must be a directory below the project, as `context` or `docs/context`",
        ))
    }
}

/// Labels: a key is a name, a value a short text.
pub(crate) fn labels<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let labels = BTreeMap::<String, String>::deserialize(d)?;
    if labels.len() > limits::LABELS_MAX {
        return Err(D::Error::custom(format!(
            "at most {} labels",
            limits::LABELS_MAX
        )));
    }
    for (key, value) in &labels {
        if !is_name(key) {
            return Err(D::Error::custom(format!(
                "`{}` is not a label: 1 to 128 of A-Z a-z 0-9 . _ -",
                limits::cut(key, 64)
            )));
        }
        if value.len() > limits::LABEL_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(D::Error::custom(format!(
                "the value of label `{key}` is longer than 256 bytes or has control characters"
            )));
        }
    }
    Ok(labels)
}

/// Arguments of a program.
pub(crate) fn args<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let args = Vec::<String>::deserialize(d)?;
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(D::Error::custom("an argument contains a NUL character"));
    }
    Ok(args)
}

/// Environment of a program.
pub(crate) fn env<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    let env = BTreeMap::<String, String>::deserialize(d)?;
    for (name, value) in &env {
        if !is_env_name(name) || value.contains('\0') {
            return Err(D::Error::custom(format!(
                "`{}` is not an environment variable that can be set",
                limits::cut(name, 64)
            )));
        }
    }
    Ok(env)
}

/// Runners by name. A name that is not built in must say how to drive its program.
pub(crate) fn runners<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<BTreeMap<RunnerName, RunnerConfig>, D::Error> {
    struct Runners;
    impl<'de> Visitor<'de> for Runners {
        type Value = BTreeMap<RunnerName, RunnerConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("runners by name")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut runners = BTreeMap::new();
            while let Some(name) = map.next_key::<RunnerName>()? {
                let runner: RunnerConfig = map.next_value()?;
                check_runner(&name, &runner).map_err(A::Error::custom)?;
                runners.insert(name, runner);
            }
            Ok(runners)
        }
    }
    d.deserialize_map(Runners)
}

fn check_runner(name: &RunnerName, runner: &RunnerConfig) -> Result<(), String> {
    let known: Vec<&str> = KNOWN_RUNNERS.into_iter().chain(FURTHER_RUNNERS).collect();
    if known.contains(&name.as_str()) || runner.protocol.is_some() {
        return Ok(());
    }
    let unknown = message::unknown("runner", name.as_str(), &known);
    Err(format!("{unknown} (a runner of your own needs `protocol`)"))
}

fn checked<T, E: Error>(
    value: Option<T>,
    fits: impl FnOnce(&T) -> bool,
    otherwise: &str,
) -> Result<Option<T>, E> {
    match value {
        Some(value) if !fits(&value) => Err(E::custom(otherwise)),
        value => Ok(value),
    }
}

fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_env_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(allowed) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

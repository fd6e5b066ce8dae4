//! Measures how many small events a second become durable while they are followed, and what one
//! costs. Prints one JSON document, with what the machine itself can do, from the same run.
//!
//! ```text
//! cargo run --release -p orchestra-head --example events            the head's own store of events
//! cargo run --release -p orchestra-head --example events -- sled    sled in its place
//! cargo run --release -p orchestra-head --example events -- target/release/orchestra-head
//!                                     the built head, over its bulk service
//! ```

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod machine;
mod served;
mod sled_store;
mod store;
mod work;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::json;
use work::{SHAPES, Shape};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = tempfile::Builder::new()
        .prefix("events-")
        .tempdir_in(base()?)?;
    let mut document = json!({ "machine": machine::limits(dir.path())? });
    let what = args.next().unwrap_or_else(|| "store".to_owned());
    if Path::new(&what).is_file() {
        document["served"] = served::measure(what.as_ref())?;
        writeln!(std::io::stdout(), "{document:#}")?;
        return Ok(());
    }
    for shape in SHAPES {
        let root = dir.path().join(shape.name);
        let measured = match what.as_str() {
            "store" => store::measure(&root, *shape)?,
            "sled" => sled_store::measure(&root, *shape)?,
            other => anyhow::bail!("`{other}` is not one of store, sled, and no file"),
        };
        document[shape.name] = figures(*shape, &measured, machine::disk_bytes(&root)?);
        std::fs::remove_dir_all(root)?;
    }
    document["what"] = json!(what);
    document["event_bytes"] = json!(work::event_bytes());
    document["making_an_event_us"] = json!(work::making_us());
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

fn figures(shape: Shape, measured: &work::Measured, disk_bytes: u64) -> serde_json::Value {
    let events = shape.events() as f64;
    let seconds = measured.took.as_secs_f64();
    json!({
        "attempts": shape.attempts,
        "followers": shape.followers,
        "events_in": shape.events(),
        "events_out": measured.followed,
        "batch": shape.batch,
        "events_per_second": (events / seconds) as u64,
        "cpu_us_per_event": (measured.cpu.as_secs_f64() * 1e8 / events).round() / 100.0,
        "cpu_share": (measured.cpu.as_secs_f64() / seconds * 100.0).round() / 100.0,
        "disk_bytes_per_event": (disk_bytes as f64 / events).round(),
        "rss_kb": machine::resident_kb(),
    })
}

/// The working directory, and not a temporary one: that may lie in memory.
fn base() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_dir()?)
}

//! The system tests: what a person can do, through the built binaries.
//!
//! One file per subject. The whole run happens in a network namespace with nothing but loopback
//! where the machine allows it; what it cannot do is skipped by name and counted at the end.

mod absence;
mod acceptance;
mod advice;
mod after;
mod applied;
mod bad_input;
mod branches;
mod crash;
mod directory;
mod ending;
mod following;
mod headless;
mod ignored;
mod interim;
mod interrupt;
mod joining;
mod keeping;
mod life;
mod limits;
mod lost;
mod moved;
mod others;
mod output;
mod queue;
mod real_clis;
mod remote;
mod renewal;
mod resources;
mod restored;
mod revoked;
mod room;
mod security;
mod setup;
mod subtasks;
mod telemetry;
mod unanswered;
mod untold;
mod upgrade;
mod usage;

use std::process::ExitCode;

use orchestra_tests::{Binaries, Suite, enter};

fn main() -> ExitCode {
    if let Err(error) = Binaries::build() {
        eprintln!("error: {error:?}");
        return ExitCode::FAILURE;
    }
    enter();
    Suite::default()
        .with("absence", absence::tests())
        .with("acceptance", acceptance::tests())
        .with("advice", advice::tests())
        .with("after", after::tests())
        .with("applied", applied::tests())
        .with("bad_input", bad_input::tests())
        .with("branches", branches::tests())
        .with("crash", crash::tests())
        .with("directory", directory::tests())
        .with("ending", ending::tests())
        .with("following", following::tests())
        .with("headless", headless::tests())
        .with("ignored", ignored::tests())
        .with("interim", interim::tests())
        .with("interrupt", interrupt::tests())
        .with("joining", joining::tests())
        .with("keeping", keeping::tests())
        .with("life", life::tests())
        .with("limits", limits::tests())
        .with("lost", lost::tests())
        .with("moved", moved::tests())
        .with("others", others::tests())
        .with("output", output::tests())
        .with("queue", queue::tests())
        .with("real_clis", real_clis::tests())
        .with("remote", remote::tests())
        .with("renewal", renewal::tests())
        .with("resources", resources::tests())
        .with("restored", restored::tests())
        .with("revoked", revoked::tests())
        .with("room", room::tests())
        .with("security", security::tests())
        .with("setup", setup::tests())
        .with("subtasks", subtasks::tests())
        .with("telemetry", telemetry::tests())
        .with("unanswered", unanswered::tests())
        .with("untold", untold::tests())
        .with("upgrade", upgrade::tests())
        .with("usage", usage::tests())
        .run()
}

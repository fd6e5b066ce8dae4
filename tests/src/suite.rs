//! Runs named tests, skips by name what this machine cannot do, and counts the skipped.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{Need, hang, processes};

/// `all` turns a skip into a failure: continuous integration sets it where the set-up succeeded.
const REQUIRE: &str = "ORCHESTRA_TESTS_REQUIRE";

/// One test: a sentence, what it needs, and what it does.
pub struct Test {
    name: String,
    needs: Vec<Need>,
    body: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

impl Test {
    /// A test that every machine can run.
    pub fn new(
        name: impl Into<String>,
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            needs: Vec::new(),
            body: Box::new(body),
        }
    }

    /// Says what the test cannot do without.
    #[must_use]
    pub fn needs(mut self, needs: &[Need]) -> Self {
        self.needs.extend_from_slice(needs);
        self
    }
}

/// The tests of one run.
#[derive(Default)]
pub struct Suite {
    tests: Vec<Test>,
}

type Skips = Arc<Mutex<Vec<String>>>;

impl Suite {
    /// Adds the tests of one file, under that file's name.
    #[must_use]
    pub fn with(mut self, room: &str, tests: Vec<Test>) -> Self {
        self.tests.extend(tests.into_iter().map(|test| Test {
            name: format!("{room}::{}", test.name),
            ..test
        }));
        self
    }

    /// Runs them as the command line says.
    pub fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        if let Err(error) = hear_signals() {
            eprintln!("error: signals that are ignored stay ignored: {error}");
            return ExitCode::FAILURE;
        }
        let skips = Skips::default();
        let trials = self
            .tests
            .into_iter()
            .map(|test| trial(test, &skips))
            .collect();
        let conclusion = libtest_mimic::run(&arguments, trials);
        report(&skips);
        processes::kill_this_run();
        conclusion.exit_code()
    }
}

/// Lets what the tests start hear Ctrl-C, also where a script runs them in its background.
fn hear_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    orchestra_config::signals::usual_for_children()
}

fn trial(test: Test, skips: &Skips) -> Trial {
    let skips = Arc::clone(skips);
    let name = test.name.clone();
    Trial::ignorable_test(test.name, move || {
        if let Some(reason) = test.needs.iter().find_map(|need| need.lacking()) {
            return skip(&skips, &name, reason);
        }
        let ended = hang::within(hang::LIMIT, &name, test.body);
        ended.map_err(|error| Failed::from(causes(&error)))?;
        Ok(Completion::Completed)
    })
}

/// What went wrong, and why, without a backtrace.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join("\ncaused by: ")
}

fn skip(skips: &Skips, name: &str, reason: String) -> Result<Completion, Failed> {
    if std::env::var(REQUIRE).is_ok_and(|value| value == "all") {
        return Err(format!("{REQUIRE}=all, but {reason}").into());
    }
    skips
        .lock()
        .expect("no test panics here")
        .push(format!("{name}: {reason}"));
    Ok(Completion::ignored_with(reason))
}

fn report(skips: &Skips) {
    let skips = skips.lock().expect("no test panics here");
    println!("skipped on this machine: {}", skips.len());
    for skip in skips.iter() {
        println!("  - {skip}");
    }
}

//! What `ctl` advises where something is not as it was wanted, and what it says of what it changed.

use anyhow::ensure;
use orchestra_tests::{Cluster, Setup, Test};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("what_was_typed_steers_no_terminal", mistakes),
    ]
}

fn mistakes() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let hostile = "x\u{9b}31m\u{202e}y";
    for args in [&["show", hostile][..], &[hostile], &["tasks", hostile]] {
        let said = cluster.ctl(args)?.exits(2)?;
        let shown = said.stderr.contains("x\\x9b31m\\u{202e}y");
        ensure!(shown && !said.stderr.contains('\u{9b}'), "{said}");
    }
    cluster.expect_no_process()
}

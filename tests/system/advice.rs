//! What `ctl` advises where something is not as it was wanted, and what it says of what it changed.

use anyhow::ensure;
use orchestra_tests::{Cluster, Project, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("what_was_typed_steers_no_terminal", mistakes),
        Test::new(
            "of_a_task_behind_one_that_failed_that_one_is_named",
            behind_a_failure,
        ),
    ]
}

fn shell(cluster: &Cluster, project: &Project, args: &[&str]) -> anyhow::Result<String> {
    cluster.add(project, &[&["--agent", "shell"], args].concat())
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

fn behind_a_failure() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, &["exit 1"])?;
        let second = shell(cluster, &project, &["true", "--after", &first])?;
        let third = shell(cluster, &project, &["true", "--after", &second])?;
        cluster.ctl(&["wait", &third])?.exits(7)?;
        for (args, code) in [
            (&["logs", &third][..], 4),
            (&["logs", &third, "--raw"], 4),
            (&["logs", &third, "--stderr"], 4),
            (&["files", &third], 4),
            (&["diff", &third], 4),
            (&["apply", &third], 5),
        ] {
            let refused = cluster.ctl_in(project.dir(), args)?.exits(code)?;
            let why = format!("{first} ended as failed");
            let said = refused.complains(&[&why, &format!("`ctl retry {first}` first")])?;
            ensure!(!said.stderr.contains("ctl wait"), "{said}");
        }
        Ok(())
    })
}

//! Attempts that do what they can to outlive their end, in eight ways and three ways of ending,
//! half of them in cgroups and half without, while bystanders get the numbers of the dead.

use orchestra_tests::Need;

use super::{Campaign, Proof};
use crate::{
    Row, Share,
    hostile::{Asked, Mode, Report, run_inside},
};

/// What both want: processes with numbers of their own, and mounts that can be hidden.
const NEEDS: &[Need] = &[Need::Root, Need::Program("unshare")];

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "hostile",
    sentence: "nothing_of_a_hostile_attempt_outlives_its_end_and_nobody_else_is_signalled",
    needs: NEEDS,
    run,
};

/// The same ended by process group and by numbers that were seen before.
pub(super) const CONTROL: Proof = Proof {
    name: "hostile-control",
    sentence: "who_ends_by_group_and_number_leaves_processes_and_hits_others",
    needs: NEEDS,
    run: control,
};

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 48, 1000);
    let half = row.figure / 2;
    let mut parts = Vec::new();
    let modes = [
        (Mode::Cgroups, 0, row.figure - half),
        (Mode::NoCgroups, row.figure - half, half),
    ];
    for (mode, first, attempts) in modes {
        let report = ask(campaign, mode, first, attempts)?;
        parts.push(words(mode, &report));
        take(&mut row, report);
    }
    row.detail = parts.join("; ");
    Ok(row)
}

fn control(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(CONTROL.name, 8, 64);
    let report = ask(campaign, Mode::Control, 0, row.figure)?;
    row.detail = format!(
        "{} trees survived the kill of their process group; {} times a bystander was hit",
        report.survived, report.hit
    );
    take(&mut row, report);
    Ok(row)
}

fn ask(campaign: &Campaign, mode: Mode, first: u64, attempts: u64) -> anyhow::Result<Report> {
    run_inside(&Asked {
        mode,
        head: campaign.binary.clone(),
        dir: campaign.dir(&format!("hostile-{mode:?}"))?,
        attempts,
        first,
        strict: campaign.share == Share::Full,
    })
}

fn take(row: &mut Row, report: Report) {
    row.rounds += report.attempts;
    for (round, text) in report.broken {
        row.violated(round, [text]);
    }
}

fn words(mode: Mode, report: &Report) -> String {
    let how = match mode {
        Mode::Cgroups => "in cgroups",
        Mode::NoCgroups => "without",
        Mode::Control => "by group",
    };
    let all = &report.outlived_ms;
    let at = |share: f64| all.get(((all.len() as f64) * share) as usize).copied();
    format!(
        "{how}: {} attempts, gone after p50 {} ms, p99 {} ms, at most {} ms; {} bystanders, {} with a reused number",
        report.attempts,
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default(),
        all.last().copied().unwrap_or_default(),
        report.bystanders,
        report.reused
    )
}

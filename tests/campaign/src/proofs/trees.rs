//! Generated work trees go the whole way: snapshot, workspace, an agent's edits, collection. Patch,
//! bundle, manifest and the applied files must say what the agent's tree says, byte for byte and
//! mode for mode, and what no result can carry is named and costs nothing else.

use std::fs;

use super::{Campaign, Proof};
use crate::{
    Row,
    trees::{Round, Seen},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "trees",
    sentence: "patch_bundle_manifest_and_applied_files_are_the_agents_tree",
    needs: &[],
    run,
};

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 12, 500);
    let mut all = Seen::default();
    while row.rounds < row.figure {
        let dir = campaign.dir("tree")?;
        let round = Round {
            dir: &dir,
            rng: campaign.rng(PROOF.name, row.rounds),
        };
        match round.run() {
            Ok((seen, wrong)) => {
                all.add(seen);
                row.violated(row.rounds, wrong);
            }
            Err(error) => row.violated(row.rounds, [format!("{error:#}")]),
        }
        fs::remove_dir_all(&dir)?;
        row.round_ended();
    }
    row.detail = all.to_string();
    Ok(row)
}

//! A check while the head serves.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use orchestra_proto::v1;
use orchestra_types::TaskId;

use super::{
    Services,
    status::{self, Result},
};
use crate::{
    backup::Touched,
    check::{self, Beside, Index, Report},
    store,
};

/// How much is read in one turn of the engine.
const PAGE_BYTES: usize = 512 * 1024;
/// Most findings in an answer.
const FINDINGS_MAX: usize = 10_000;

pub(super) async fn check(services: &Services) -> Result<v1::CheckResponse> {
    // Nothing that a row refers to goes while it is looked for.
    let _hold = services.keeper.hold().await;
    let engine = services.engine.clone();
    let (blobs, events) = (services.blobs.clone(), services.events.clone());
    let head = orchestra_config::StateDir::new(&services.about.state_dir).head();
    let runtime = tokio::runtime::Handle::current();
    let touched = Arc::new(Mutex::new(Touched::everything()));
    let noted = engine.note_touched(Arc::downgrade(&touched)).await;
    noted.map_err(status::stopped)?;
    let checked = tokio::task::spawn_blocking(move || {
        let mut index = Index::default();
        check::read_rows(&mut index, |after| {
            let page = engine.read(move |view| view.store.page(after.as_deref(), PAGE_BYTES));
            Ok(runtime.block_on(page)?)
        })?;
        let changing = changing(&touched)?;
        let beside = Beside {
            blobs: &blobs,
            events: &head.join("events"),
            context: &head.join("context"),
            reached: Some(events.reached()),
        };
        check::judge(index, &changing, &beside)
    });
    let checked = checked.await;
    let checked = checked.map_err(|_| status::internal("the check broke"))?;
    let report = checked.map_err(|error| status::failed("failed to check", &error))?;
    Ok(answer(report))
}

/// The tasks whose rows changed while they were read.
fn changing(touched: &Mutex<Touched>) -> anyhow::Result<BTreeSet<TaskId>> {
    let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
    let keys = touched.take(usize::MAX)?;
    Ok(keys.iter().filter_map(|key| store::task_of(key)).collect())
}

fn answer(report: Report) -> v1::CheckResponse {
    let total = report.findings.len() as u64;
    let findings = report.findings.into_iter().take(FINDINGS_MAX);
    v1::CheckResponse {
        rows: report.rows,
        tasks: report.tasks,
        blobs: report.blobs,
        segments: report.segments,
        documents: report.documents,
        bytes: report.bytes,
        findings_total: total,
        findings: findings
            .map(|finding| v1::Finding {
                level: finding.level.as_str().to_owned(),
                what: finding.what,
                problem: finding.problem,
                advice: finding.advice.to_owned(),
            })
            .collect(),
    }
}

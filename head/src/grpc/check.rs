//! A check while the head serves.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orchestra_proto::v1;
use orchestra_types::TaskId;

use super::{
    Services,
    status::{self, Result},
    stream::{self, Stream},
};
use crate::{
    backup::Touched,
    blobs::Blobs,
    check::{self, Beside, Index, Report},
    engine::Handle,
    events::Events,
    keeping::Keeper,
    progress::Progress,
    store,
};

/// How much is read in one turn of the engine.
const PAGE_BYTES: usize = 512 * 1024;
/// How often its reader hears how far it has come.
const UPDATE_EVERY: Duration = Duration::from_millis(250);
/// Most findings in an answer.
const FINDINGS_MAX: usize = 10_000;

pub(super) async fn check(services: &Services) -> Result<v1::CheckResponse> {
    let (progress, _reached) = Progress::watched();
    Parts::of(services).check(progress).await
}

/// The same, with updates. The check ends when its reader is gone.
pub(super) fn follow(services: &Services) -> Stream<v1::CheckUpdate> {
    let parts = Parts::of(services);
    stream::produce(services, |answers| async move {
        let (progress, mut reached) = Progress::watched();
        let mut checking = std::pin::pin!(parts.check(progress));
        loop {
            tokio::select! {
                report = &mut checking => {
                    let update = v1::CheckUpdate {
                        report: Some(report?),
                        ..v1::CheckUpdate::default()
                    };
                    // The reader may be gone.
                    let _ = stream::send(&answers, update).await;
                    return Ok(());
                }
                () = tokio::time::sleep(UPDATE_EVERY) => {
                    let now = *reached.borrow_and_update();
                    let update = v1::CheckUpdate {
                        bytes: now.done,
                        bytes_total: now.total,
                        report: None,
                    };
                    if stream::send(&answers, update).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    })
}

/// What a check looks at.
struct Parts {
    keeper: Keeper,
    engine: Handle,
    blobs: Blobs,
    events: Events,
    head: PathBuf,
}

impl Parts {
    fn of(services: &Services) -> Self {
        Self {
            keeper: services.keeper.clone(),
            engine: services.engine.clone(),
            blobs: services.blobs.clone(),
            events: services.events.clone(),
            head: orchestra_config::StateDir::new(&services.about.state_dir).head(),
        }
    }

    async fn check(self, progress: Progress) -> Result<v1::CheckResponse> {
        // Nothing that a row refers to goes while it is looked for.
        let _hold = self.keeper.hold().await;
        let runtime = tokio::runtime::Handle::current();
        let touched = Arc::new(Mutex::new(Touched::everything()));
        let noted = self.engine.note_touched(Arc::downgrade(&touched)).await;
        noted.map_err(status::stopped)?;
        let (engine, blobs, events, head) = (self.engine, self.blobs, self.events, self.head);
        let checked = tokio::task::spawn_blocking(move || {
            let mut index = Index::default();
            check::read_rows(&mut index, &progress, |after| {
                let page = engine
                    .read(move |view| view.store.page_past_damage(after.as_deref(), PAGE_BYTES));
                Ok(runtime.block_on(page)?)
            })?;
            let changing = changing(&touched)?;
            let beside = Beside {
                db: &head.join("db"),
                blobs: &blobs,
                events: &head.join("events"),
                context: &head.join("context"),
                reached: Some(events.reached()),
                progress: &progress,
            };
            check::judge(index, &changing, &beside)
        });
        let checked = checked.await;
        let checked = checked.map_err(|_| status::internal("the check broke"))?;
        let report = checked.map_err(|error| status::failed("failed to check", &error))?;
        Ok(answer(report))
    }
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

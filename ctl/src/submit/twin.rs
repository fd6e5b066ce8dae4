//! Other machines that say that they are this one: copies of an image share `/etc/machine-id`.

use orchestra_types::MachineId;

use crate::{
    client::Client,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::fleet::Worker,
    ui::escape::line,
};

/// Refuses work in a directory of this machine where the head could give it to another one.
pub async fn refuse_twins(client: &Client, machine: &MachineId) -> Result<()> {
    let boot = orchestra_config::boot_id();
    let boot = boot.or_failed(|| "failed to read the machine's boot id".to_owned())?;
    let workers = client.workers().await?;
    match twin(&workers, machine, &boot) {
        Some(other) => Err(refused(other)),
        None => Ok(()),
    }
}

/// A worker that is there and says that it is on this machine, and that has another start.
fn twin<'a>(workers: &'a [Worker], machine: &MachineId, boot: &str) -> Option<&'a Worker> {
    workers.iter().find(|worker| {
        let there = worker.state == "connected" && worker.availability != "revoked";
        let other = !worker.boot_id.is_empty() && worker.boot_id != boot;
        there && worker.machine == machine.as_str() && other
    })
}

fn refused(other: &Worker) -> Error {
    let message = format!(
        "worker {} on {} has the same `/etc/machine-id` as this machine and is another one: the task could work \
         in the directory of that name there",
        line(&other.name),
        line(&other.hostname)
    );
    Error::new(Exit::Refused, message).hint(
        "give the copy an id of its own (`rm /etc/machine-id && systemd-machine-id-setup` there) and start its worker \
         again; until then leave `--in-place` out, and `ctl apply` the result",
    )
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    fn worker(machine: &str, boot_id: &str, state: &str) -> Worker {
        Worker::read(v1::Worker {
            info: Some(v1::WorkerInfo {
                id: "w".into(),
                name: "w".into(),
                machine: machine.into(),
                boot_id: boot_id.into(),
                ..Default::default()
            }),
            state: state.into(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn only_another_machine_that_is_there_and_says_that_it_is_this_one_is_a_twin() {
        let found = |other: Worker| twin(&[other], &"m".parse().unwrap(), "b").is_some();
        assert!(found(worker("m", "c", "connected")));
        assert!(!found(worker("m", "b", "connected")), "this machine");
        assert!(!found(worker("n", "c", "connected")), "another id");
        // It may have been this machine, before its last start.
        assert!(!found(worker("m", "c", "disconnected")));
        let mut revoked = worker("m", "c", "connected");
        revoked.availability = "revoked".into();
        assert!(!found(revoked));
    }
}

//! Certificates are made anew before they end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Deadline, Need, Output, Setup, Test, run, scene, until};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    SanType, date_time_ymd,
};

use crate::remote::{join, joined, joined_by, with_head};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the certificates of these tests are good; they are due when 100 days are left.
const LIFE: Duration = Duration::from_secs(300 * 24 * 3600);
/// How long after the start of a worker a certificate is due.
const SOON: Duration = Duration::from_secs(8);

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_worker_has_its_certificate_renewed_at_its_start_and_while_it_is_connected",
            worker,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_worker_whose_certificate_has_expired_says_what_mends_it_and_that_does",
            expired_worker,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_client_whose_certificate_has_expired_says_since_when_and_what_to_do",
            expired_client,
        ),
        Test::new("ctl_renews_a_copied_clients_certificate_quietly", client),
        Test::new(
            "a_client_that_cannot_keep_a_new_certificate_works_on",
            kept_out,
        )
        .needs(&[Need::Isolation, Need::Program("mount")]),
    ]
}

fn worker() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        drop(joined(cluster, cable)?);
        let far = Files::of_worker(cluster, "far")?;
        let key = far.read("key.pem")?;
        // The second is due a moment after the start, while the worker is connected.
        for left in [99 * DAY, 100 * DAY + SOON] {
            let old = far.age(cluster, LIFE, left)?;
            let neighbour = joined_by(cluster, cable, "none")?;
            until("it is renewed", Deadline::SOON, || {
                Ok((far.read("cert.pem")? != old).then_some(()))
            })
            .with_context(|| neighbour.log())?;
            until("it says so", Deadline::SOON, || {
                let told = neighbour.log().contains("certificate renewed");
                Ok(told.then_some(()))
            })
            .with_context(|| neighbour.log())?;
            ensure!(far.read("key.pem")? == key, "the key is another one");
            // Though the worker's stream was made with the one before.
            let workers = cluster.json(&["workers"])?["workers"].clone();
            let workers = workers.as_array().context("it lists workers")?;
            let untils = workers.iter().map(|w| w["certificate_expires_at"].as_str());
            let next_year = 1971 + now().as_secs() / 31_556_952;
            let next_year = next_year.to_string();
            ensure!(
                untils
                    .map(Option::unwrap_or_default)
                    .all(|until| until > &next_year[..4] && !until.starts_with(&next_year)),
                "{workers:#?}"
            );
            drop(neighbour);
        }
        joined_by(cluster, cable, "none").map(drop)
    })
}

fn expired_worker() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        drop(joined(cluster, cable)?);
        let far = Files::of_worker(cluster, "far")?;
        let key = far.read("key.pem")?;
        far.forge(cluster, now() - 800 * DAY, now() - 70 * DAY)?;
        let state = cluster.path("far/state");
        let mends = format!("join --state {} --token TOKEN`", state.display());
        let mut only = Command::new(Binaries::get().worker());
        only.args(["join", "--only", "--state"]).arg(&state);
        let refused = run(only, b"")?.exits(1)?;
        refused.complains(&[
            "has joined the cluster already, but",
            "has expired on",
            &mends,
        ])?;
        let expired = join(cluster, cable, "none", "far")?;
        until("it says what to do", Deadline::SOON, || {
            let log = expired.log();
            let told = log.contains("no session with the head") && log.contains("has expired on");
            Ok((told && log.contains(&mends)).then_some(()))
        })
        .with_context(|| expired.log())?;
        drop(expired);
        let workers = cluster.json(&["workers"])?["workers"].clone();

        let mended = joined(cluster, cable)?;
        ensure!(mended.log().contains("new certificate"), "{}", mended.log());
        ensure!(far.read("key.pem")? == key, "the key is another one");
        let now = cluster.json(&["workers"])?["workers"].clone();
        let count = |workers: &serde_json::Value| workers.as_array().map(Vec::len);
        ensure!(
            count(&now) == count(&workers),
            "it is another worker: {now:#}"
        );
        Ok(())
    })
}

fn expired_client() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let copy = Files::of_copy(cluster, "copy")?;
        copy.forge(
            cluster,
            now() - 800 * DAY,
            Duration::from_secs(1_767_225_600),
        )?;
        let output = copy.ctl(cluster, &["status"])?.exits(1)?;
        output.complains(&["has expired on 2026-01-01", "copy the directory `client`"])?;
        Ok(())
    })
}

fn client() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let copy = Files::of_copy(cluster, "copy")?;
        let renewed = |commands: usize| {
            let old = copy.age(cluster, LIFE, 99 * DAY)?;
            let status = || copy.ctl(cluster, &["status"]);
            // Several at once do not hinder each other.
            let all = std::thread::scope(|scope| {
                let running: Vec<_> = (0..commands).map(|_| scope.spawn(status)).collect();
                let ended = running.into_iter().map(|one| one.join().expect("no panic"));
                ended.collect::<anyhow::Result<Vec<Output>>>()
            });
            for output in all? {
                let output = output.ok()?;
                ensure!(output.stderr.is_empty(), "{output}");
            }
            ensure!(copy.read("cert.pem")? != old, "it is the old one");
            status()?.ok()
        };
        renewed(1)?;
        renewed(4)?;
        // One that is still good for long stays as it is.
        let good = copy.read("cert.pem")?;
        copy.ctl(cluster, &["status"])?.ok()?;
        ensure!(copy.read("cert.pem")? == good, "it was renewed again");
        Ok(())
    })
}

fn kept_out() -> anyhow::Result<()> {
    /// Makes a directory one that nobody writes to, not even root.
    const READ_ONLY: &str = r#"mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; ! touch "$0/x" 2>/dev/null; exec "$@""#;
    scene(Setup::new(), |cluster| {
        let copy = Files::of_copy(cluster, "copy")?;
        let old = copy.age(cluster, LIFE, 99 * DAY)?;
        let ctl = copy.command(cluster, &["status"]);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", READ_ONLY])
            .arg(&copy.dir)
            .arg(ctl.get_program())
            .args(ctl.get_args())
            .env_clear()
            .envs(
                ctl.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        let output = run(command, b"")?.ok()?;
        ensure!(output.stderr.is_empty(), "{output}");
        ensure!(copy.read("cert.pem")? == old, "it is another one");
        Ok(())
    })
}

/// A directory of credentials.
struct Files {
    dir: PathBuf,
    /// Whom its certificate names.
    holder: String,
}

impl Files {
    fn of_worker(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let dir = cluster.path(name).join("state/worker/pki");
        let id = dir.with_file_name("id");
        let id = fs::read_to_string(&id).with_context(|| format!("no `{}`", id.display()))?;
        let holder = format!("worker/{}", id.trim());
        Ok(Self { dir, holder })
    }

    /// A copy of the client's directory, in a state directory of its own.
    fn of_copy(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let dir = cluster.path(name).join("client");
        fs::create_dir_all(&dir)?;
        for file in ["endpoint", "ca.pem", "cert.pem", "key.pem"] {
            let from = cluster.state().join("client").join(file);
            fs::copy(&from, dir.join(file)).with_context(|| format!("no `{file}`"))?;
        }
        let holder = "admin/me".to_owned();
        Ok(Self { dir, holder })
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        read(&self.dir.join(name))
    }

    /// `ctl ARGS` with these credentials, not run yet.
    fn command(&self, cluster: &Cluster, args: &[&str]) -> Command {
        let state = self.dir.parent().expect("it is in a state directory");
        let state = state.to_string_lossy();
        let line = [&["--state", &state], args].concat();
        cluster.command(&cluster.path(""), &line)
    }

    fn ctl(&self, cluster: &Cluster, args: &[&str]) -> anyhow::Result<Output> {
        run(self.command(cluster, args), b"")
    }

    /// Puts a certificate of the same holder in place of the one that is there, as the cluster would have
    /// made it some time ago: of its whole life, so much is left. It is returned.
    fn age(&self, cluster: &Cluster, life: Duration, left: Duration) -> anyhow::Result<String> {
        let ends = now() + left;
        self.forge(cluster, ends - life, ends)
    }

    fn forge(&self, cluster: &Cluster, begins: Duration, ends: Duration) -> anyhow::Result<String> {
        let pki = cluster.state().join("head/pki");
        let ca_key = KeyPair::from_pem(&read(&pki.join("ca.key.pem"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&read(&pki.join("ca.pem"))?, ca_key)?;
        let status = cluster.json(&["status"])?;
        let name = status["cluster"].as_str().context("a cluster has a name")?;
        let uri = format!("spiffe://orchestra/{name}/{}", self.holder);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.holder.as_str());
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + begins;
        params.not_after = epoch + ends;
        let key = KeyPair::from_pem(&self.read("key.pem")?)?;
        let pem = params.signed_by(&key, &issuer)?.pem();
        fs::write(self.dir.join("cert.pem"), &pem)?;
        Ok(pem)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

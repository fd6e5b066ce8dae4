//! Traces over OTLP and metrics for Prometheus.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use anyhow::{Context, ensure};
use orchestra_tests::{
    Cluster, Collector, Deadline, GATE, Need, Setup, Sink, Span, Test, alive, kill_9, run, scene,
    tool, until,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_task_is_one_trace_over_head_and_worker", || {
            let sink = Sink::start()?;
            one_trace(&sink.endpoint(), || sink.spans())?;
            ensure!(!sink.metrics().is_empty(), "no metrics arrived");
            Ok(())
        }),
        Test::new("a_real_collector_takes_the_trace", || {
            let collector = Collector::start()?;
            one_trace(&collector.endpoint(), || collector.spans())
        })
        .needs(&[Need::Tool(Collector::PROGRAM)]),
        Test::new(
            "a_submitters_trace_goes_on_over_a_head_that_is_killed",
            submitters_trace,
        ),
        Test::new("a_trace_has_no_path_and_no_text", untold),
        Test::new(
            "a_collector_that_is_away_costs_one_line_and_one_when_it_is_back",
            away,
        ),
        Test::new(
            "an_endpoint_that_does_not_say_how_to_reach_it_is_refused_with_both_forms",
            no_scheme,
        ),
        Test::new("an_endpoint_that_cannot_be_reached_is_refused", no_endpoint),
        Test::new(
            "a_collector_that_never_answers_keeps_no_stop",
            never_answers,
        ),
        Test::new(
            "the_prometheus_endpoint_is_valid_and_counts_tasks",
            prometheus,
        ),
        Test::new("promtool_finds_nothing_wrong_with_the_metrics", promtool)
            .needs(&[Need::Tool("promtool")]),
    ]
}

/// Everything sends to `endpoint`; `arrived` is what has come there.
fn one_trace(endpoint: &str, arrived: impl Fn() -> Vec<Span>) -> anyhow::Result<()> {
    let setup = Setup::new()
        .model("hello")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "500");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["Write hello.txt", "--agent", "agent"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        until(
            "the spans of head and worker have arrived",
            Deadline::SOON,
            || {
                let spans = of_task(&arrived(), &task);
                let worker = spans.iter().any(|span| span.service == "orchestra-worker");
                Ok((worker && of_head(&spans, "task").is_some()).then_some(()))
            },
        )
        .with_context(|| format!("spans: {:#?}", arrived()))?;
        let spans = of_task(&arrived(), &task);
        let traces: BTreeSet<&String> = spans.iter().map(|span| &span.trace).collect();
        ensure!(
            traces.len() == 1,
            "{task} has {} traces: {spans:#?}",
            traces.len()
        );
        let roots: Vec<&Span> = spans.iter().filter(|s| s.parent.is_empty()).collect();
        let whole = of_head(&spans, "task").context("the whole is there")?;
        ensure!(
            roots.len() == 1 && roots[0].id == whole.id,
            "its roots are {roots:#?}"
        );
        let attempt = of_head(&spans, "task.attempt").context("its attempt is there")?;
        let queue = of_head(&spans, "task.queue").context("its wait is there")?;
        let mut workers = spans.iter().filter(|s| s.service == "orchestra-worker");
        let worker = workers.find(|span| span.name == "attempt");
        let worker = worker.context("the worker's attempt is there")?;
        ensure!(
            attempt.parent == whole.id && queue.parent == whole.id && worker.parent == attempt.id,
            "not one below the other: {spans:#?}"
        );
        let says =
            |name: &str, value: &str| attempt.attributes.get(name).is_some_and(|v| v == value);
        ensure!(
            says("result", "succeeded") && says("runner", "agent"),
            "{attempt:#?}"
        );
        Ok(())
    })
}

/// A cluster that sends its spans there, at once.
fn sending_to(sink: &Sink) -> Setup {
    Setup::new()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

/// The head's span of this name.
fn of_head<'a>(spans: &'a [Span], name: &str) -> Option<&'a Span> {
    let mut head = spans.iter().filter(|s| s.service == "orchestra-head");
    head.find(|span| span.name == name)
}

/// The one who submits has a trace, and the head is another process half-way.
fn submitters_trace() -> anyhow::Result<()> {
    let sink = Sink::start()?;
    scene(sending_to(&sink), |cluster| {
        let project = cluster.repository("project")?;
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let args = ["add", &gate, "--agent", "shell", "--json"];
        let mut add = cluster.command(project.dir(), &args);
        add.env("TRACEPARENT", format!("00-{trace}-{parent}-01"));
        let added = run(add, b"")?.ok()?.json()?;
        let task = added["tasks"][0]["id"].as_str().context("it has an id")?;
        cluster.wait_for(task, &["running"], Deadline::SOON)?;
        until("the span of its wait has arrived", Deadline::SOON, || {
            Ok(of_head(&of_task(&sink.spans(), task), "task.queue").map(drop))
        })?;
        let head = cluster.head_pid()?;
        kill_9(head)?;
        until("it is dead", Deadline::SOON, || {
            Ok((!alive(head)).then_some(()))
        })?;
        cluster.start()?;
        cluster.open_gate()?;
        cluster.succeeded(task, Deadline::SOON)?;
        until("the span of the whole has arrived", Deadline::SOON, || {
            Ok(of_head(&of_task(&sink.spans(), task), "task").map(drop))
        })?;
        let spans = of_task(&sink.spans(), task);
        ensure!(spans.iter().all(|span| span.trace == trace), "{spans:#?}");
        let whole = of_head(&spans, "task").context("the whole is there")?;
        let queue = of_head(&spans, "task.queue").context("its wait is there")?;
        let attempt = of_head(&spans, "task.attempt").context("its attempt is there")?;
        ensure!(
            whole.parent == parent && queue.parent == whole.id && attempt.parent == whole.id,
            "{spans:#?}"
        );
        Ok(())
    })
}

/// An apply that is refused, so that the log has paths.
fn untold() -> anyhow::Result<()> {
    let sink = Sink::start()?;
    scene(sending_to(&sink), |cluster| {
        let project = cluster.repository("project")?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let work = format!("{gate}; echo theirs > in-the-way.txt");
        let task = cluster.add(&project, &[&work, "--agent", "shell", "--apply"])?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        project.write("in-the-way.txt", "mine\n")?;
        cluster.open_gate()?;
        cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;
        let finish = until("its end has arrived", Deadline::SOON, || {
            let spans = of_task(&sink.spans(), &task);
            let whole = of_head(&spans, "task").map(|whole| whole.id.clone());
            Ok(of_head(&spans, "task.finish").cloned().zip(whole))
        });
        let (finish, whole) = finish.with_context(|| format!("spans: {:#?}", sink.spans()))?;
        ensure!(finish.parent == whole, "{finish:#?}");
        let [(name, about)] = &finish.events[..] else {
            anyhow::bail!("the refusal is one event: {finish:#?}");
        };
        let says = about.keys().eq(["target"]) && about["target"] == "orchestra_head::closing";
        ensure!(name == "warning" && says, "{finish:#?}");
        let all = format!("{:?}", sink.spans());
        for untold in [
            "in-the-way",
            "project",
            &*cluster.path("").to_string_lossy(),
        ] {
            ensure!(!all.contains(untold), "`{untold}` is in {all}");
        }
        Ok(())
    })
}

/// The spans that say that they are about `task`.
fn of_task(spans: &[Span], task: &str) -> Vec<Span> {
    let about = |span: &&Span| {
        span.attributes
            .values()
            .any(|v| v == task || v.starts_with(&format!("{task}.")))
    };
    spans.iter().filter(about).cloned().collect()
}

fn away() -> anyhow::Result<()> {
    let address = Sink::start()?.address();
    let setup = Setup::new()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &address.to_string())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    scene(setup, |cluster| {
        let log = cluster.state().join("head/head.log");
        let lines = |words: &str| -> anyhow::Result<usize> {
            let log = fs::read_to_string(&log).context("failed to read the log")?;
            Ok(log.lines().filter(|line| line.contains(words)).count())
        };
        let (begins, over) = ("metrics cannot be sent", "metrics are sent again");
        until("the head says that it is away", Deadline::SOON, || {
            Ok((lines(begins)? > 0).then_some(()))
        })?;
        let project = cluster.repository("project")?;
        for _ in 0..3 {
            let task = cluster.add(&project, &["true", "--agent", "shell"])?;
            cluster.succeeded(&task, Deadline::SOON)?;
        }
        let sink = Sink::at(address)?;
        until("the head says that it is back", Deadline::SOON, || {
            Ok((lines(over)? > 0).then_some(()))
        })?;
        ensure!(!sink.metrics().is_empty(), "no metrics arrived");
        let said = (lines(begins)?, lines(over)?, lines(" ERROR ")?);
        ensure!(said == (1, 1, 0), "said {said:?} times");
        ensure!(
            lines(&format!("http://{address}"))? == 2,
            "the endpoint is named"
        );
        Ok(())
    })
}

fn no_scheme() -> anyhow::Result<()> {
    let setup = Setup::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.invalid:4317");
    let cluster = Cluster::new(setup)?;
    let started = cluster.ctl(&["start", "--detach"])?;
    let both = [
        "http://collector.invalid:4317",
        "https://collector.invalid:4317",
    ];
    let said = both
        .iter()
        .all(|form| started.stderr.contains(&format!("`{form}`")));
    ensure!(started.code != Some(0) && said, "{started}");
    cluster.expect_no_process()
}

fn no_endpoint() -> anyhow::Result<()> {
    for endpoint in ["ftp://127.0.0.1:4317", "http://127.0.0.1:99999"] {
        let cluster = Cluster::new(Setup::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint))?;
        let started = cluster.ctl(&["start", "--detach"])?;
        let said = started.stderr.contains(&format!("`{endpoint}`"));
        let said = said && started.stderr.contains("`http://HOST:PORT`");
        ensure!(started.code != Some(0) && said, "{started}");
        cluster.expect_no_process()?;
    }
    Ok(())
}

/// It takes connections and nothing else.
fn never_answers() -> anyhow::Result<()> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let setup = Setup::new()
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &silent.local_addr()?.to_string(),
        )
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["true", "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        cluster.stop()?;
        let log = fs::read_to_string(cluster.state().join("head/head.log"))?;
        let in_time = "the last metrics could not be sent in time";
        ensure!(log.contains(in_time), "{log}");
        Ok(())
    })
}

fn prometheus() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["true", "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let text = scrape(cluster)?;
        let succeeded = text.lines().find(|line| {
            line.starts_with("orchestra_") && line.contains("\"succeeded\"") && line.ends_with(" 1")
        });
        ensure!(
            succeeded.is_some(),
            "no metric counts the succeeded task:\n{text}"
        );
        Ok(())
    })
}

fn promtool() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let program = tool("promtool").context("the test needs promtool")?;
        let mut check = Command::new(program);
        check.args(["check", "metrics"]);
        let output = run(check, scrape(cluster)?.as_bytes())?.ok()?;
        ensure!(output.stderr.is_empty(), "{output}");
        Ok(())
    })
}

fn scrape(cluster: &Cluster) -> anyhow::Result<String> {
    let status = cluster.json(&["status"])?;
    let address = status["metrics"]
        .as_str()
        .context("status says where the metrics are")?;
    let mut stream = TcpStream::connect(address).context("failed to reach the endpoint")?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: head\r\n\r\n")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("failed to read the metrics")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an HTTP answer has a body")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

//! The dashboard over a real run: Prometheus scrapes two replicas that have something to show, and every panel gets it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use rig::scratch::{Program, Scratch, free_address};
use rig::wait::wait_describing;
use rig::world::{NicoSetup, RunningNico, World};
use rig::{proxy::Proxy, tools};
use serde_json::{Value, json};

use crate::monitoring::{panels, queries_of};

const DEADLINE: Duration = Duration::from_secs(120);

/// A Prometheus that scrapes these.
struct Prometheus {
    at: SocketAddr,
    promtool: std::path::PathBuf,
    log: std::path::PathBuf,
    // Dropped in this order.
    _program: Program,
    _scratch: Scratch,
}

impl Prometheus {
    /// `None` where it is not installed.
    fn start(targets: &[SocketAddr]) -> Option<Self> {
        let program = tools::on_path("the dashboard", "prometheus")?;
        let promtool = tools::on_path("the dashboard", "promtool")?;
        let (at, scratch) = (free_address(), Scratch::new("prometheus"));
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{
                "job_name": "nico-metrics", "honor_labels": true, "static_configs": [{"targets": targets}],
            }],
        });
        let [file, data, log] =
            ["prometheus.yaml", "data", "log"].map(|name| scratch.path().join(name));
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={at}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        Some(Self {
            at,
            promtool,
            log,
            _program: Program::start(&mut command),
            _scratch: scratch,
        })
    }

    /// The series that an expression gives now; none before Prometheus answers.
    fn ask(&self, expression: &str) -> Vec<Value> {
        let mut command = Command::new(&self.promtool);
        let server = format!("http://{}", self.at);
        command.args(["query", "instant", "-o", "json", &server, expression]);
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until an expression gives numbers: the series.
    async fn gets(&self, expression: &str) -> Vec<Value> {
        let is_number = |series: &Value| series["value"][1] != "NaN";
        let gets = || async {
            let series = self.ask(expression);
            series.iter().any(is_number).then_some(series)
        };
        let told = || async { fs::read_to_string(&self.log).unwrap() };
        wait_describing(expression, DEADLINE, gets, told).await
    }
}

/// A replica that takes part in the election.
async fn replica(world: &World, proxy: &Proxy) -> RunningNico {
    let setup = NicoSetup::new(env!("CARGO_BIN_EXE_nico"));
    let lease = ["--leader-elect", "--lease-namespace", world.namespace()];
    world.nico(&setup.args(&lease), proxy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboard_shows_something_of_a_real_run() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let replicas = [replica(&world, &proxy).await, replica(&world, &proxy).await];
    let Some(prometheus) = Prometheus::start(&replicas.each_ref().map(|it| it.http())) else {
        return;
    };
    let hosts = world.machines_named(&["cp-01", "w-01", "cp-02"]).await;
    // The machine of another cluster lets nobody in.
    hosts[2].refuse(true);
    let spec = |control_plane: &str, workers: Option<&str>| {
        let repository = "https://git.example.com/flakes.git";
        let mut spec =
            json!({"gitRepo": repository, "controlPlane": {"machines": [control_plane]}});
        if let Some(worker) = workers {
            spec["dataPlane"] = json!({"machines": [worker]});
        }
        spec
    };
    world
        .cluster("prod", spec("cp-01", Some("w-01")))
        .await
        .unwrap();
    world.cluster("other", spec("cp-02", None)).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    // A rollout that stands still, so that there is something to see for as long as it takes.
    world.nio().set("w-01", |knobs| knobs.never_reacts = true);
    let edit = Patch::Merge(json!({"spec": {"gitRepo": "https://git.example.com/new.git"}}));
    let params = PatchParams::default();
    world
        .clusters()
        .patch("prod", &params, &edit)
        .await
        .unwrap();

    for panel in panels() {
        for query in queries_of(&panel) {
            let series = prometheus.gets(&query).await;
            let shown = series
                .iter()
                .take(3)
                .map(|it| format!("{} {}", it["metric"], it["value"][1]));
            println!(
                "{}: {}",
                panel["title"],
                shown.collect::<Vec<_>>().join(", ")
            );
        }
    }
    for (query, expected) in [
        ("count(nico_leader)", "2"),
        ("sum(nico_leader)", "1"),
        ("sum(nico_machines)", "3"),
        ("sum(nico_machines_in_flight)", "1"),
        ("sum(nico_clusters{phase=\"Provisioning\"})", "2"),
    ] {
        let found = || async {
            let series = prometheus.ask(query);
            let is_so = series.first()?["value"][1] == expected;
            is_so.then_some(())
        };
        let told = || async { format!("{:?}", prometheus.ask(query)) };
        wait_describing(&format!("{query} is {expected}"), DEADLINE, found, told).await;
    }
}

//! The Jobs by which NIO v1 applies configurations, and the objects between them and a configuration. Of each, only its
//! owner is kept, and of a Job also which attempt it applies and how it ended.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{CustomResource, Resource};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::api::metadata::metadata_of_work;
use crate::api::names::{MARKER_DIR, Marker};
use crate::api::read::{lenient, small};

/// The container whose script names the paths of the additional files.
const INJECTS_FILES: &str = "inject-files";

/// State of a Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobState {
    /// It has not ended, or does not say when.
    #[default]
    Unfinished,
    /// It completed then.
    Complete(Timestamp),
    /// It failed then.
    Failed(Timestamp),
}

/// A Job.
#[derive(Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = k8s_openapi::api::batch::v1::Job)]
pub struct Job {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "metadata_of_work")]
    pub metadata: ObjectMeta,
    /// The attempt that its pods apply: the one marker that its template names.
    #[serde(default, rename = "spec", deserialize_with = "marker")]
    pub marker: Option<Marker>,
    /// Its state.
    #[serde(default, rename = "status", deserialize_with = "state")]
    pub state: JobState,
}

/// A `CronJob`.
#[derive(Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = k8s_openapi::api::batch::v1::CronJob)]
pub struct CronJob {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "metadata_of_work")]
    pub metadata: ObjectMeta,
}

/// Spec of a `NixCronJob`: nothing of it is read.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(
    group = "nio.homystack.com",
    version = "v1alpha1",
    kind = "NixCronJob",
    plural = "nixcronjobs",
    namespaced,
    schema = "disabled",
    root = "NixCronJobKind"
)]
pub struct NixCronJobSpec {}

/// NIO's recurring apply of a configuration.
#[derive(Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = NixCronJobKind)]
pub struct NixCronJob {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "metadata_of_work")]
    pub metadata: ObjectMeta,
}

/// Spec of a `NixJob`: nothing of it is read.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(
    group = "nio.homystack.com",
    version = "v1alpha1",
    kind = "NixJob",
    plural = "nixjobs",
    namespaced,
    schema = "disabled",
    root = "NixJobKind"
)]
pub struct NixJobSpec {}

/// NIO's install of a machine.
#[derive(Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = NixJobKind)]
pub struct NixJob {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "metadata_of_work")]
    pub metadata: ObjectMeta,
}

impl Job {
    /// Whether it may still change its machine.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.state == JobState::Unfinished
    }

    /// When it ended.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Unfinished => None,
            JobState::Complete(ended) | JobState::Failed(ended) => Some(ended),
        }
    }
}

fn marker<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Marker>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct JobSpec {
        #[serde(deserialize_with = "lenient")]
        template: Template,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Template {
        #[serde(deserialize_with = "lenient")]
        spec: PodSpec,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct PodSpec {
        #[serde(deserialize_with = "lenient")]
        init_containers: Vec<Box<RawValue>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Container {
        #[serde(deserialize_with = "lenient")]
        name: String,
    }

    let spec: JobSpec = lenient(deserializer)?;
    let injects = |container: &RawValue| {
        let container: Container = serde_json::from_str(container.get()).unwrap_or_default();
        container.name == INJECTS_FILES
    };
    let containers = spec.template.spec.init_containers;
    let mut markers = containers
        .iter()
        .filter(|container| injects(container))
        .flat_map(|container| markers(container.get()));
    let first = markers.next();
    // If it names two attempts, it is unknown which one it applies.
    let is_one = markers.all(|other| Some(other) == first);
    Ok(first.filter(|_| is_one))
}

/// The markers whose paths occur in a text.
fn markers(text: &str) -> impl Iterator<Item = Marker> {
    let paths = text.split(MARKER_DIR).skip(1);
    paths.filter_map(|path| {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let end = path.find(|c| !is_of_name(c)).unwrap_or(path.len());
        Marker::from_path(&format!("{MARKER_DIR}{}", &path[..end]))
    })
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobState, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        #[serde(deserialize_with = "small")]
        conditions: Vec<Condition>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Condition {
        #[serde(rename = "type", deserialize_with = "lenient")]
        kind: String,
        #[serde(deserialize_with = "lenient")]
        status: String,
        #[serde(deserialize_with = "lenient")]
        last_transition_time: Option<Time>,
    }

    let status: Status = lenient(deserializer)?;
    let since = |kind: &str| {
        let mut conditions = status.conditions.iter();
        let condition = conditions.find(|it| it.kind == kind && it.status == "True")?;
        Some(condition.last_transition_time.as_ref()?.0)
    };
    let failed = || since("Failed").map(JobState::Failed);
    let complete = since("Complete").map(JobState::Complete);
    Ok(complete.or_else(failed).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PATH: &str = ".nico/0123456789ab-7";

    fn job(container: &str, script: &str, status: &Value) -> Job {
        let script = ["sh", "-c", script];
        let other = json!({"name": "fetch-source", "command": [".nico/0123456789ab-9"]});
        let injects = json!({"name": container, "command": script});
        serde_json::from_value(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "a", "uid": "u"},
            "spec": {"template": {"spec": {"initContainers": [other, injects]}}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_marker_is_the_one_that_the_template_names() {
        let named = |container, script: &str| job(container, script, &json!({})).marker;
        let marker = Marker::from_path(PATH);
        assert!(marker.is_some());
        for script in [
            format!("cp /x '{PATH}'"),
            format!("mkdir -p \"sub/{PATH}\"; cp x \"sub/{PATH}\"\n"),
            format!("install {PATH}"),
        ] {
            assert_eq!(named(INJECTS_FILES, &script), marker, "{script}");
        }
        // The number goes on: it is another attempt.
        let longer = named(INJECTS_FILES, &format!("{PATH}1"));
        assert!(longer.is_some() && longer != marker);
        let two = format!("{PATH} {PATH}1");
        for (container, script) in [
            ("app", PATH),
            (INJECTS_FILES, ""),
            (INJECTS_FILES, ".nico/"),
            (INJECTS_FILES, two.as_str()),
        ] {
            assert_eq!(named(container, script), None, "{script}");
        }
    }

    #[test]
    fn a_job_has_ended_once_it_says_so_and_when() {
        let ended: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let condition = |kind, status, time: Value| json!({"conditions": [{"type": kind, "status": status, "lastTransitionTime": time}]});
        let time = || json!("2026-01-01T00:00:00Z");
        for (status, state) in [
            (
                condition("Complete", "True", time()),
                JobState::Complete(ended),
            ),
            (condition("Failed", "True", time()), JobState::Failed(ended)),
            (condition("Complete", "False", time()), JobState::Unfinished),
            (
                condition("Complete", "True", json!(7)),
                JobState::Unfinished,
            ),
            (
                condition("SuccessCriteriaMet", "True", time()),
                JobState::Unfinished,
            ),
            (json!({"active": 1}), JobState::Unfinished),
            (json!("odd"), JobState::Unfinished),
        ] {
            assert_eq!(job(INJECTS_FILES, PATH, &status).state, state, "{status}");
        }
    }

    #[test]
    fn an_odd_job_is_read_all_the_same() {
        for spec in [
            json!(null),
            json!([1]),
            json!({"template": {"spec": {"initContainers": "none"}}}),
            json!({"template": {"spec": {"initContainers": [1, {"name": {}}]}}}),
        ] {
            let job: Job = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            assert_eq!((job.marker, job.state), (None, JobState::Unfinished));
        }
    }
}

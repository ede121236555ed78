//! Deployments for tests of other modules.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{DeploymentKey, DeploymentSpec, Timeline};
use crate::flow::{FlowBody, FlowCall, FlowDef, Function, Missed, Overlap};
use crate::schedule::Schedule;
use crate::task::{Parameter, TaskOptions};

static REPORT: FlowDef = FlowDef {
    name: "report",
    crate_name: "",
    module: "",
    file: "",
    line: 0,
    description: "",
    tags: &[],
    parameters: &[Parameter {
        name: "region",
        type_name: "String",
        unordered: false,
        in_key: true,
    }],
    resources: &[],
    requirements: &[],
    is_async: false,
    max_active_runs: None,
    schedule: None,
    missed: Missed::Latest,
    overlap: Overlap::Queue,
    depends_on_past: false,
    timeout: None,
    defaults: TaskOptions::NONE,
    output: None,
    function: &Function(|(_,): (String,), _| FlowBody::wired(())),
};

/// Creates the default deployment of a flow with the parameter `region`.
pub(crate) fn spec(schedules: &[Schedule], region: &str) -> DeploymentSpec {
    DeploymentSpec {
        key: DeploymentKey {
            flow: REPORT.name.into(),
            name: None,
        },
        schedules: schedules.to_vec(),
        call: Arc::new(FlowCall::new(&REPORT, Box::new((region.to_owned(),)))),
    }
}

/// Returns the timeline of a schedule that is in force since an instant.
pub(crate) fn timeline(schedule: Schedule, since: DateTime<Utc>) -> Timeline {
    let spec = spec(&[schedule], "EU");
    Timeline::new(&spec.put_in_force(None, since).0, &spec).0
}

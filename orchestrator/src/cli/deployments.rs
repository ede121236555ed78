//! `deployments`: lists the deployments on record, and removes one.

use std::process::ExitCode;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, DIM, RED, Table, TableCell, exact, instant, print, tell};
use super::parameters::in_words;
use super::{names, selection};
use crate::deployment::{DeploymentKey, DeploymentRecord};
use crate::runtime::Deployment;

pub(super) async fn deployments(
    context: &CommandContext,
    command: &args::Deployments,
) -> CommandResult {
    match command {
        args::Deployments::Ls(args) => list(context, args).await,
        args::Deployments::Rm(args) => remove(context, args).await,
    }
}

async fn list(context: &CommandContext, args: &args::DeploymentsLs) -> CommandResult {
    let runtime = context.runtime_if_there().await?;
    let flow = args.flow.as_deref();
    let found = match &runtime {
        Some(runtime) => {
            let now = runtime.now();
            let records = runtime.host.deployment_records(flow).await?;
            let deployment = |record: &DeploymentRecord| Deployment::new(record, now);
            records.iter().map(deployment).collect()
        }
        None => Vec::new(),
    };
    if let (Some(flow), true) = (flow, found.is_empty()) {
        names::flow_with_runs(runtime.as_ref(), flow).await?;
    }
    if args.format.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        tell(format_args!(
            "no deployments on record{}",
            names::looked_in(context, runtime.is_some())
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([
        "FLOW",
        "DEPLOYMENT",
        "SCHEDULES",
        "PARAMETERS",
        "SINCE",
        "NEXT",
    ]);
    for deployment in found {
        let name = match deployment.name {
            Some(name) => name.into(),
            None => TableCell::styled("(default)", DIM),
        };
        let schedules = match deployment.unreadable {
            Some(problem) => TableCell::styled(format!("unreadable: {problem}"), RED),
            None => deployment.schedules.join("; ").into(),
        };
        table.row([
            deployment.flow.into(),
            name,
            schedules,
            output::beginning(&in_words(&deployment.parameters)).into(),
            deployment.since.map(instant).unwrap_or_default().into(),
            deployment.next.map(exact).unwrap_or_default().into(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(context: &CommandContext, args: &args::DeploymentsRm) -> CommandResult {
    let (flow, name) = (args.flow.as_str(), args.name.as_deref());
    let runtime = context.runtime_if_there().await?;
    let records = selection::records(runtime.as_ref(), flow).await?;
    let key = DeploymentKey {
        flow: flow.to_owned().into(),
        name: name.map(Into::into),
    };
    let is_removed = match &runtime {
        Some(runtime) => runtime.forget_deployment(flow, name).await?,
        None => false,
    };
    if !is_removed {
        if records.is_empty() {
            names::flow_with_runs(runtime.as_ref(), flow).await?;
        }
        return Err(not_on_record(context, &key, &records, runtime.is_some()));
    }
    let which = match name {
        Some(name) => format!("deployment `{name}` of `{flow}`"),
        None => format!("the default deployment of `{flow}`"),
    };
    print(format_args!(
        "{which} is no longer on record; its runs are kept\n"
    ))?;
    tell(
        "a process that serves it creates no more runs of it until it serves it anew; it is new then: it has missed nothing",
    );
    Ok(ExitCode::SUCCESS)
}

fn not_on_record(
    context: &CommandContext,
    key: &DeploymentKey,
    records: &[DeploymentRecord],
    is_there: bool,
) -> CommandFailure {
    let flow = &key.flow;
    let what = match &key.name {
        Some(name) => format!("no deployment `{name}` of flow `{flow}` on record"),
        None => format!("no default deployment of flow `{flow}` on record"),
    };
    let failure = CommandFailure::usage(what);
    match (records, is_there) {
        (_, false) => failure.why(format!("there is no store {}", names::store(context))),
        ([], true) => failure
            .why("none of its deployments is")
            .hint("`deployments ls` lists those of all flows"),
        (records, true) => failure
            .why(format!(
                "there is {}",
                crate::runtime::names(records.iter().map(|record| &record.key))
            ))
            .hint(match &key.name {
                Some(_) => format!("`deployments ls {flow}` lists them"),
                None => format!("name one: `deployments rm {flow} NAME`"),
            }),
    }
}

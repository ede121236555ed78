//! The macros' code does not care what names mean around it.

use ::orchestrator::prelude::*;
use serde::{Deserialize, Serialize};

mod std {}
mod core {}
mod orchestrator {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Box;
#[derive(Clone, Debug, Serialize, Deserialize)]
struct String;
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Vec;
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Arc;
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Value;
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TaskDef;
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Option {
    Some,
    None,
}

#[allow(dead_code)]
trait Send {}
#[allow(dead_code)]
trait Future {}

macro_rules! shadow {
    ($($name:ident)*) => { $(
        #[allow(unused_macros)]
        macro_rules! $name {
            () => { compile_error!("the macros' code calls a user's macro") };
        }
    )* };
}
shadow!(env file line module_path panic unreachable);

#[task(retries = 1, retry_delay = ["1s"], pool = "p", timeout = "1s")]
async fn names(
    node: u32,
    call: &str,
    inputs: &[u8],
    index: Box,
    value: String,
    context_: Vec,
    value0_: &Value,
    call_: Option,
    options_: Arc,
    names: TaskDef,
) -> Result<Box> {
    assert!(
        !matches!(call_, Option::Some),
        "{node} {call} {inputs:?} {value:?} {context_:?} {value0_:?}"
    );
    let _ = (options_, names);
    Ok(index)
}

#[task]
#[allow(non_snake_case)]
fn upper(TASK: u32, FLOW: u32, NONE: u32) -> u32 {
    TASK + FLOW + NONE
}

#[task]
async fn identity(identity: u32, success: u32, plain: u32) -> Vec {
    assert!(identity + success + plain > 0);
    Vec
}

#[flow]
fn flow(
    node: u32,
    value0_: Box,
    context_: Option,
    parameters: Vec,
    #[context] context: &Context,
) -> Node<Box> {
    upper(node, context.flow().len() as u32, 1).after(identity(1, 2, 3));
    names(
        node,
        "call",
        [1_u8],
        value0_,
        String,
        parameters,
        Value,
        context_,
        Arc,
        TaskDef,
    )
}

#[flow(schedule = "0 6 * * *", max_active_runs = 1, overlap = "skip")]
async fn body(flow: u32, body: u32) -> Result<u32> {
    Ok(upper(flow, body, 1).await?)
}

#[test]
fn shadowed_names_compile() {
    assert_eq!(flow(1, Box, Option::None, Vec).name(), "flow");
    assert_eq!(body(1, 2).name(), "body");
    assert_eq!(cron!("@daily").name(), "0 0 * * *");
    let _ = Option::Some;
}

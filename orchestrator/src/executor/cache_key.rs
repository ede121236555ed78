//! The keys of cached results: hashes of a task's path, its code and its inputs.

use std::sync::Arc;

use crate::entry::EntryKind;
use crate::journal::{CacheKey, CacheQuery};
use crate::panic::catch;
use crate::secret::Secret;
use crate::task::{Arg, CacheDef, Call, RequirementKind, TaskCode, TaskDef};
use crate::value::{Value, feed};

/// The prefix of cache keys; its number changes with the way keys are made.
const FORMAT: &str = "orchestrator cache 1";

/// Returns the cache key of a call, or the reason why it has none, which names the parameter that
/// cannot be hashed. `variables` are the texts of the task's variables. This runs user code.
pub(crate) fn query(
    definition: &TaskDef,
    cache: &CacheDef,
    task: Arc<str>,
    values: &[Value],
    variables: &[Secret],
) -> Result<CacheQuery, String> {
    let inputs = match cache.key {
        Some(key) => {
            let nothing = crate::task::Resources::default();
            let keyed = catch(|| {
                key(&mut Call::new(
                    values.iter().cloned().map(Arg::Value).collect(),
                    Vec::new(),
                    &nothing,
                    None,
                ))
            });
            let keyed = keyed.map_err(|panicked| format!("its `cache_key` {panicked}"))?;
            keyed.map_err(|problem| {
                format!("what its `cache_key` returns cannot be hashed: {problem}")
            })?
        }
        None => {
            let mut hasher = blake3::Hasher::new();
            let parameters = definition.parameters.iter().zip(values);
            for (parameter, value) in parameters.filter(|(parameter, _)| parameter.in_key) {
                let fed = value.feed(&mut hasher, parameter.unordered);
                fed.map_err(|problem| {
                    format!("its parameter {parameter} cannot be hashed: {problem}")
                })?;
            }
            hasher.finalize().into()
        }
    };
    let inputs = with_variables(definition, inputs, variables);
    let code = match cache.code {
        TaskCode::Tokens(tokens) => ("tokens", tokens),
        TaskCode::Version(version) => ("version", version),
    };
    let mut hasher = blake3::Hasher::new();
    feed(&mut hasher, &(FORMAT, &*task, code, inputs), false)
        .map_err(|problem| problem.to_string())?;
    Ok(CacheQuery {
        key: CacheKey(hasher.finalize().into()),
        task,
        inputs,
        expiry: cache.expiry,
    })
}

/// Returns the hash of a call's inputs and of the variables that are a part of its key.
fn with_variables(definition: &TaskDef, inputs: [u8; 32], variables: &[Secret]) -> [u8; 32] {
    let requirements = definition.requirements.iter();
    let requirements =
        requirements.filter(|requirement| requirement.kind.entry() == EntryKind::Variable);
    let mut in_key = requirements.zip(variables).filter(|(requirement, _)| {
        matches!(requirement.kind, RequirementKind::Variable { in_key, .. } if in_key)
    });
    let Some(first) = in_key.next() else {
        // keys of tasks without variables are those of earlier versions
        return inputs;
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&inputs);
    for (requirement, text) in std::iter::once(first).chain(in_key) {
        for part in [requirement.name, text.expose()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::{Parameter, TaskBody, TaskOptions};

    const fn parameter(name: &'static str, unordered: bool, in_key: bool) -> Parameter {
        Parameter {
            name,
            type_name: "",
            unordered,
            in_key,
        }
    }

    fn task(code: TaskCode, key: Option<crate::task::KeyFn>) -> TaskDef {
        TaskDef {
            crate_name: "shop",
            module: "shop::churn",
            parameters: const {
                &[
                    parameter("customers", false, true),
                    parameter("tags", true, true),
                    parameter("client", false, false),
                ]
            },
            // code outside of any function is attributed to its module
            cache: Some(CacheDef {
                path: || "shop::churn::score::__TASK::{{closure}}",
                expiry: None,
                code,
                key,
            }),
            ..TaskDef::plain(
                "score",
                TaskBody::Async(|_| Box::pin(std::future::pending())),
            )
        }
    }

    fn key(task: &TaskDef, tags: [&str; 2], client: u32) -> String {
        let inputs = [
            Value::new(vec![1_u32, 2]),
            Value::new(tags.map(str::to_owned).to_vec()),
            Value::new(client),
        ];
        let cache = task.cache.as_ref().unwrap();
        let query = query(task, cache, task.path().into(), &inputs, &[]).unwrap();
        assert_eq!(&*query.task, "shop::shop::churn::score");
        blake3::Hash::from_bytes(query.key.0).to_string()
    }

    /// A change of these keys invalidates everything that users have cached: `FORMAT` must change
    /// with them.
    #[test]
    fn cache_keys_are_stable_across_releases() {
        let tokens = task(TaskCode::Tokens("( customers : & [ u32 ] ) { }"), None);
        let version = task(TaskCode::Version("2"), None);
        let by_function = task(
            TaskCode::Version("2"),
            Some(|call| crate::__private::cache_key(&call.owned::<Vec<u32>>(0))),
        );
        let keys = [&tokens, &version, &by_function].map(|task| key(task, ["a", "b"], 7));
        assert_eq!(
            keys,
            [
                "3e149ef3328324903e468ed3a0a3fb00e07e53008978fea41412b1897d41b114",
                "afcd125f09a9221fd147776fd4efba97b5247d17125eb7288c9dbbad85223937",
                "1c46121e5153f5edfc340accca9b12701e3bdf7c3e4fd18bbdf01c068a0a9d44",
            ]
        );
        // options are not part of the code
        let expiry = Some(Duration::from_secs(1));
        let options = TaskOptions {
            retries: Some(3),
            ..TaskOptions::NONE
        };
        let cache = tokens
            .cache
            .as_ref()
            .map(|cache| CacheDef { expiry, ..*cache });
        assert_eq!(
            key(
                &TaskDef {
                    options,
                    cache,
                    ..task(TaskCode::Tokens(""), None)
                },
                ["a", "b"],
                7
            ),
            keys[0]
        );
        // a set has no order, and parameters outside of the key do not change it
        assert_eq!(key(&tokens, ["b", "a"], 8), keys[0]);
        assert_ne!(key(&tokens, ["b", "c"], 7), keys[0]);
    }
}

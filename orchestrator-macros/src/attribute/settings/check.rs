//! The rules for the options that control how a task runs.

use super::Settings;
use crate::attribute::fallback::Errors;
use crate::attribute::names::written;
use crate::attribute::options::OptionValue;
use crate::attribute::value::Delay;
use orchestrator_grammar::bounds;
use orchestrator_grammar::options::MAX_RETRIES;
use orchestrator_grammar::trigger::may_be_met_after_a_cancel;
use syn::ExprPath;

impl Settings {
    /// Reports the problems of the options.
    pub(crate) fn check(&self, errors: &mut Errors) {
        check_retries(self, errors);
        check_clean_up(self, errors);
        if let Some(timeout) = &self.timeout
            && timeout.value.is_zero()
        {
            errors.at(
                &timeout.tokens,
                "expected `timeout` to be greater than zero: leave it out for no limit",
            );
        }
        if let Some(pool) = &self.pool
            && pool.value.trim().is_empty()
        {
            errors.at(
                &pool.tokens,
                "expected `pool` to name a pool, got an empty string",
            );
        }
        if let Some(pool) = &self.pool
            && let Some(fault) = bounds::fault(&pool.value, bounds::NAME)
        {
            errors.at(
                &pool.tokens,
                format!("the name of the pool is too long: {fault}"),
            );
        }
        if let Some(slots) = &self.pool_slots {
            if self.pool.is_none() {
                errors.at(
                    &slots.key,
                    "`pool_slots` needs a pool: add `pool = \"…\"`, or leave it out",
                );
            }
            if slots.value == 0 || slots.value > u64::from(u32::MAX) {
                errors.at(
                    &slots.tokens,
                    format!(
                        "expected `pool_slots` to be from 1 to {}, got {}",
                        u32::MAX,
                        slots.value
                    ),
                );
            }
        }
    }
}

fn check_clean_up(settings: &Settings, errors: &mut Errors) {
    let Some(run_on_cancel) = &settings.run_on_cancel else {
        return;
    };
    let rule = match &settings.trigger {
        None => "the default one, `all_success`,".to_owned(),
        Some(rule) if may_be_met_after_a_cancel(rule.value) => return,
        Some(rule) => format!("`{}`", written(&rule.tokens)),
    };
    let message = format!(
        "`run_on_cancel` needs a trigger rule that can be met after upstreams were cancelled, which {rule} cannot: \
         write `trigger = all_done, run_on_cancel`"
    );
    errors.at(&run_on_cancel.key, message);
}

fn check_retries(settings: &Settings, errors: &mut Errors) {
    check_path(settings.retry_if.as_ref(), errors);
    if let Some(retries) = &settings.retries
        && retries.value > u64::from(MAX_RETRIES)
    {
        errors.at(
            &retries.tokens,
            format!(
                "expected `retries` to be at most {MAX_RETRIES}, got {}",
                retries.value
            ),
        );
    }
    if let Some(backoff) = &settings.backoff
        && !(backoff.value >= 1.0 && backoff.value.is_finite())
    {
        let message = "expected `backoff` to be a factor from 1 on: 2 doubles the delay with each attempt, 1 keeps it";
        errors.at(&backoff.tokens, message);
    }
    match settings
        .retry_delay
        .as_ref()
        .map(|delay| (&delay.value, delay))
    {
        Some((Delay::List(delays), given)) => {
            if delays.is_empty() {
                errors.at(
                    &given.tokens,
                    "expected at least one delay in `retry_delay`: the last one repeats",
                );
            }
            let excluded = [
                settings.backoff.as_ref().map(|backoff| &backoff.key),
                settings.max_retry_delay.as_ref().map(|delay| &delay.key),
            ];
            for key in excluded.into_iter().flatten() {
                let message = format!(
                    "`{key}` cannot be combined with a list of delays in `retry_delay`: the list states each delay; leave \
                     `{key}` out, or give one delay"
                );
                errors.at(key, message);
            }
        }
        Some((Delay::Fixed(delay), given)) => {
            if let Some(most) = &settings.max_retry_delay
                && most.value < *delay
            {
                let (delay, got) = (written(&given.tokens), written(&most.tokens));
                let message = format!(
                    "expected `max_retry_delay` to be at least the `retry_delay` of {delay}, got {got}"
                );
                errors.at(&most.tokens, message);
            }
        }
        None => {}
    }
}

/// Checks the path of a function that is the value of an option.
pub(crate) fn check_path(path: Option<&OptionValue<ExprPath>>, errors: &mut Errors) {
    if let Some(path) = path
        && path
            .value
            .path
            .segments
            .first()
            .is_some_and(|first| first.ident == "Self")
    {
        errors.at(
            &path.tokens,
            "expected the type's name, got `Self`: options are outside of the `impl`",
        );
    }
}

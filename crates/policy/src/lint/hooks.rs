//! Lints about reviews and hook commands.

use super::{LintContext, Lints};
use crate::diag::Level;
use crate::hook::Hook;
use crate::review::{OnReject, Review, ReviewMode};
use crate::value::show_span;

/// P11 to P13 for one stage.
pub(super) fn review(l: &mut Lints<'_>, stage: &str, context: &LintContext<'_>) {
    let policy = &l.file.policy;
    let (r, server): (&Review, _) = match stage {
        "loader" => (&policy.loader.review, context.loader_review_server),
        _ => (&policy.signer.review, context.signer_review_server),
    };
    let key = |name: &str| format!("{stage}.review.{name}");
    let (mode, hook, hooks) = (key("mode"), key("hook"), key("hooks"));
    let written = r.written().count();
    match r.mode {
        ReviewMode::Script if written == 0 => {
            l.add(
                "P11",
                Level::Error,
                &[&mode],
                "mode \"script\" without a hook",
                "set hook",
            );
        }
        ReviewMode::Script if server == Some(false) => l.add(
            "P11",
            Level::Error,
            &[&mode],
            format!(
                "there is no review server for the hook to ask: {stage}.review.servers is empty"
            ),
            format!("set {stage}.review.servers in the daemon's configuration"),
        ),
        ReviewMode::Off => {
            let unused = [
                (&hook, r.hook.is_some()),
                (&hooks, r.hooks.is_some()),
                (&key("on-reject"), r.on_reject != OnReject::Discard),
            ];
            for (key, _) in unused.iter().filter(|(_, set)| *set) {
                l.add(
                    "P11",
                    Level::Error,
                    &[key, &mode],
                    "set while mode is \"off\", so nothing is reviewed",
                    "set mode = \"script\" or \"manual\", or remove the line",
                );
            }
        }
        _ => {}
    }
    if r.hook.is_some() && r.hooks.is_some() {
        l.add(
            "P11",
            Level::Error,
            &[&hooks],
            "hook and hooks are both set",
            "put all into hooks",
        );
    }
    for h in r.written() {
        let key = if r.hook.as_ref() == Some(h) {
            &hook
        } else {
            &hooks
        };
        command(
            l,
            key,
            h,
            r.hook_shell,
            Some(&format!("set {stage}.review.hook-shell = true")),
            context,
        );
    }
    if let Some(most) = context.hooks_timeout
        && r.timeout > most
        && r.mode == ReviewMode::Script
    {
        let detail = format!(
            "timeout {} is above hooks.timeout {} of the configuration, which is kept to",
            show_span(r.timeout),
            show_span(most)
        );
        let fix = format!("write at most \"{}\"", show_span(most));
        l.add("P11", Level::Warning, &[&key("timeout")], detail, fix);
    }
}

pub(super) fn other_hooks(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let policy = &l.file.policy;
    let rest = [
        ("key-manager.ds.hook", &policy.key_manager.ds.hook),
        (
            "server.outbound.file-hook",
            &policy.server.outbound.file_hook,
        ),
    ];
    for (key, hook) in rest {
        if let Some(hook) = hook {
            command(l, key, hook, false, None, context);
        }
    }
}

/// P12, P13.
fn command(
    l: &mut Lints<'_>,
    key: &str,
    hook: &Hook,
    shell: bool,
    shell_key: Option<&str>,
    context: &LintContext<'_>,
) {
    if !shell && let Some(what) = hook.shell_syntax() {
        let script = "put the line into a script and name that";
        let fix = match shell_key {
            Some(text) => format!("{text}, or {script}"),
            None => script.to_string(),
        };
        let detail = format!("{what} means something to a shell only, and no shell runs this");
        l.add("P12", Level::Error, &[key], detail, fix);
        return;
    }
    let Some(command) = hook.command(shell) else {
        l.add(
            "P12",
            Level::Error,
            &[key],
            "cannot be split into words",
            "write a list of words",
        );
        return;
    };
    if let Some(runs) = context.runs
        && !shell
        && !runs(&command.program)
    {
        let detail = format!(
            "'{}' is missing or the daemon's user may not run it",
            command.program
        );
        l.add(
            "P13",
            Level::Warning,
            &[key],
            detail,
            "check the path and its mode",
        );
    }
}

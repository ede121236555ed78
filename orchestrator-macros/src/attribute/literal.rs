//! Literals in expressions.

use syn::{Expr, Lit, LitStr};

/// Removes the invisible groups that `macro_rules!` adds.
pub(crate) fn ungrouped(expression: &Expr) -> &Expr {
    match expression {
        Expr::Group(group) => ungrouped(&group.expr),
        other => other,
    }
}

pub(crate) fn literal(expression: &Expr) -> Option<&Lit> {
    match ungrouped(expression) {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

pub(crate) fn string(literal: &Lit) -> Option<&LitStr> {
    match literal {
        Lit::Str(string) => Some(string),
        _ => None,
    }
}

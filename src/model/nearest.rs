//! What was probably meant by a name that is unknown.

use super::kind::{DEFAULT_NAMESPACE, Kind, KindRef, Namespace};
use super::selector::Selector;

/// Names that are less similar are not taken for one another.
const MIN_SIMILARITY: f64 = 0.7;

/// The known name that is nearest to an unknown one. Case does not count.
pub fn nearest_name<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    let similarity = |name: &str| strsim::jaro_winkler(&unknown, &name.to_lowercase());
    let rated = known.into_iter().map(|name| (similarity(name), name));
    let near = rated.filter(|(similarity, _)| *similarity > MIN_SIMILARITY);
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map(|(_, name)| name)
}

/// A selector that matches no kind, and the one that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector {selector} matches no kind")]
pub struct UnmatchedSelector {
    /// As it was given.
    pub selector: Box<Selector>,
    /// Of a kind that there is.
    pub nearest: Option<Box<Selector>>,
}

impl UnmatchedSelector {
    /// A selector that matches none of `kinds`.
    pub fn new(selector: &Selector, kinds: impl IntoIterator<Item = KindRef>) -> Self {
        let kinds: Vec<KindRef> = kinds.into_iter().collect();
        let text = selector.to_string();
        let nearest = match text.split_once('/') {
            Some((namespace, kind)) => nearest_pair(namespace, kind, &kinds),
            None => whole_namespace(&text, &kinds).or_else(|| {
                nearest_kind(&text, &kinds).map(|pair| Selector::from_kind(&pair.kind))
            }),
        };
        UnmatchedSelector {
            selector: Box::new(selector.clone()),
            nearest: nearest.map(Box::new),
        }
    }

    /// A selector that matches no kind, without another one that was probably meant.
    pub fn alone(selector: &Selector) -> Self {
        UnmatchedSelector {
            selector: Box::new(selector.clone()),
            nearest: None,
        }
    }

    /// A warning that names the option, and the selector that was probably meant.
    pub fn warning(&self, option: &str) -> String {
        match &self.nearest {
            Some(nearest) => format!("{option}: {self}; did you mean {nearest}?"),
            None => format!("{option}: {self}"),
        }
    }
}

/// Every kind of a namespace that has this very name.
fn whole_namespace(name: &str, kinds: &[KindRef]) -> Option<Selector> {
    let mut namespaces = kinds.iter().map(|pair| pair.namespace.to_string());
    let is_namespace = namespaces.any(|namespace| namespace == name);
    is_namespace
        .then(|| format!("{name}/*").parse().ok())
        .flatten()
}

/// The pair that is nearest, in the nearest namespace if that has a similar kind.
fn nearest_pair(typed: &str, kind: &str, kinds: &[KindRef]) -> Option<Selector> {
    let namespace = nearest_namespace(typed, kinds);
    if kind == "*" {
        return format!("{}/*", namespace?).parse().ok();
    }
    let of_namespace = |pair: &&KindRef| Some(&pair.namespace) == namespace.as_ref();
    let there: Vec<KindRef> = kinds.iter().filter(of_namespace).cloned().collect();
    let nearest = nearest_kind(kind, &there).or_else(|| nearest_kind(kind, kinds));
    let nearest = nearest.or_else(|| nearest_kind(&format!("{typed}/{kind}"), kinds));
    nearest.map(Selector::from)
}

fn nearest_kind<'a>(kind: &str, kinds: &'a [KindRef]) -> Option<&'a KindRef> {
    let name = nearest_name(kind, kinds.iter().map(|pair| pair.kind.as_str()))?;
    kinds.iter().find(|pair| pair.kind == Kind::new(name))
}

/// The namespace that is nearest. The default one is often written without its parentheses.
fn nearest_namespace(namespace: &str, kinds: &[KindRef]) -> Option<Namespace> {
    let words: Vec<String> = kinds
        .iter()
        .map(|pair| pair.namespace.to_string())
        .collect();
    let words = words.iter().map(String::as_str);
    let is_default = namespace.eq_ignore_ascii_case(DEFAULT_NAMESPACE.trim_matches(['(', ')']));
    let exact = words.clone().find(|word| *word == namespace);
    let nearest = exact.or_else(|| {
        if is_default {
            Some(DEFAULT_NAMESPACE)
        } else {
            nearest_name(namespace, words)
        }
    });
    nearest.map(Namespace::parse_display)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_selector_is_found_in_any_case() {
        let kinds = [
            KindRef::new("", "Order"),
            KindRef::new("", "OrderLine"),
            KindRef::new("acme", "Customer"),
            KindRef::new("acme", "a/b"),
        ];
        for (given, nearest) in [
            ("order", Some("Order")),
            ("Orders", Some("Order")),
            ("orderline", Some("OrderLine")),
            ("Costumer", Some("Customer")),
            ("default/Order", Some("(default)/Order")),
            ("Default/order", Some("(default)/Order")),
            ("acne/Customer", Some("acme/Customer")),
            ("acme/Order", Some("(default)/Order")),
            ("other/Customer", Some("acme/Customer")),
            ("A/B", Some("acme/a/b")),
            ("acme", Some("acme/*")),
            ("acm/*", Some("acme/*")),
            ("xyz/*", None),
            ("Xyz", None),
            ("*", None),
        ] {
            let selector: Selector = given.parse().unwrap();
            let unmatched = UnmatchedSelector::new(&selector, kinds.clone());
            let found = unmatched.nearest.map(|nearest| nearest.to_string());
            assert_eq!(found.as_deref(), nearest, "{given}");
        }
    }
}

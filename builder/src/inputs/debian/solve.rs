//! From names to the whole set of packages. In go the records of all suites and the names
//! asked for; out come the records to install, the very set that
//! `apt-get --no-install-recommends install` gives on an empty system.
//!
//! A SAT solver (resolvo) searches; what makes it agree with apt is the order of choices:
//! the highest version first, alternatives as written, a real package before those that
//! provide it, and those by priority, then by name.
//!
//! **Invariant:** the answer depends on the records and names only, not on their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use debversion::Version;
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, SolvableId, Solver,
    SolverCache, StringId, UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::index::Record;
use super::relation::{Relation, parse_relations};

/// Why there is no set of packages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SolveError {
    /// No suite lists it.
    #[error("no suite lists the package `{name}`{}; correct the name in the manifest, or add the suite or component that has it", nearest_hint(.nearest.as_deref()))]
    UnknownPackage {
        /// As asked for.
        name: String,
        /// The name that differs least.
        nearest: Option<String>,
    },
    /// Only a virtual package has that name.
    #[error("`{name}` is a virtual package: name one of those that provide it in the manifest ({})", .providers.join(", "))]
    Virtual {
        /// As asked for.
        name: String,
        /// Real packages that provide it, sorted.
        providers: Vec<String>,
    },
    /// The packages exclude each other, or need something that is not there.
    #[error(
        "the packages cannot be installed together; take one of these out of the manifest, or add the suite that has what is missing:\n{0}"
    )]
    Conflict(String),
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// Finds all packages that `requested` needs; sorted by name, one version of each.
///
/// # Errors
/// [`SolveError`], naming the package and the reason.
pub fn solve(
    records: &[Record],
    requested: &BTreeSet<String>,
    architecture: &str,
) -> Result<Vec<Record>, SolveError> {
    let catalogue = Catalogue::new(records, architecture);
    for name in requested {
        catalogue.check_requested(name)?;
    }
    let requirements = requested
        .iter()
        .map(|name| {
            let all = catalogue.by_name.get(name.as_str()).cloned().unwrap_or_default();
            ConditionalRequirement::from(catalogue.version_set(name, all, "*".into()))
        })
        .collect();
    let mut solver = Solver::new(catalogue);
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solution) => {
            let chosen = |id: SolvableId| solver.provider().record(id).clone();
            let mut found: Vec<Record> = solution.into_iter().map(chosen).collect();
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let text = conflict.display_user_friendly(&solver).to_string();
            Err(SolveError::Conflict(text.trim_end().to_owned()))
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => {
            Err(SolveError::Conflict("the search was stopped".into()))
        }
    }
}

/// The records of one package that a relation admits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Admitted {
    records: Vec<usize>,
    text: String,
}

impl VersionSet for Admitted {
    type V = usize;
}

impl fmt::Display for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Records that provide a name, by their package's priority and name.
type ByProvider<'a> = BTreeMap<(u8, &'a str), Vec<usize>>;

/// All records, by what they are called and what they provide.
struct Catalogue<'a> {
    pool: Pool<Admitted, String>,
    architecture: &'a str,
    records: Vec<&'a Record>,
    by_name: BTreeMap<&'a str, Vec<usize>>,
    provided: BTreeMap<String, Vec<(usize, Option<Version>)>>,
    solvables: Vec<SolvableId>,
}

impl<'a> Catalogue<'a> {
    fn new(all: &'a [Record], architecture: &'a str) -> Self {
        let mut catalogue = Self {
            pool: Pool::default(),
            architecture,
            records: Vec::new(),
            by_name: BTreeMap::new(),
            provided: BTreeMap::new(),
            solvables: Vec::new(),
        };
        let mut sorted: Vec<&Record> = all
            .iter()
            .filter(|record| record.architecture == architecture || record.architecture == "all")
            .collect();
        sorted.sort_by(|a, b| {
            a.name.cmp(&b.name).then(b.version.cmp(&a.version)).then(a.suite.cmp(&b.suite))
        });
        // Suites overlap: the first one that lists a version gives it.
        sorted.dedup_by(|a, b| a.name == b.name && a.version == b.version);
        for record in sorted {
            catalogue.add(record);
        }
        catalogue
    }

    fn add(&mut self, record: &'a Record) {
        let index = self.records.len();
        let name = self.pool.intern_package_name(record.name.clone());
        self.solvables.push(self.pool.intern_solvable(name, index));
        self.by_name.entry(&record.name).or_default().push(index);
        // What cannot be parsed provides nothing; a package that needs it will say so.
        for relation in parse_relations(&record.provides).unwrap_or_default().into_iter().flatten()
        {
            let version = relation.version.map(|(_, version)| version);
            self.provided.entry(relation.name).or_default().push((index, version));
        }
        self.records.push(record);
    }

    fn check_requested(&self, name: &str) -> Result<(), SolveError> {
        if self.by_name.contains_key(name) {
            return Ok(());
        }
        if let Some(entries) = self.provided.get(name) {
            let providers: BTreeSet<String> =
                entries.iter().map(|(index, _)| self.records[*index].name.clone()).collect();
            let providers = providers.into_iter().collect();
            return Err(SolveError::Virtual { name: name.to_owned(), providers });
        }
        let nearest = self
            .by_name
            .keys()
            .map(|known| (strsim::damerau_levenshtein(name, known), *known))
            .min()
            .filter(|(distance, _)| *distance <= 2 + name.len() / 4)
            .map(|(_, known)| known.to_owned());
        Err(SolveError::UnknownPackage { name: name.to_owned(), nearest })
    }

    fn record(&self, id: SolvableId) -> &'a Record {
        self.records[self.pool.resolve_solvable(id).record]
    }

    fn version_set(&self, name: &str, records: Vec<usize>, text: String) -> VersionSetId {
        let name = self.pool.intern_package_name(name.to_owned());
        self.pool.intern_version_set(name, Admitted { records, text })
    }

    /// Records that bear or provide the relation's name, by package; real ones apart.
    fn matches(&self, relation: &Relation) -> (Vec<usize>, ByProvider<'a>) {
        let ours = |architecture: &str| architecture == "any" || architecture == self.architecture;
        if relation.architecture.as_deref().is_some_and(|wanted| !ours(wanted)) {
            return (Vec::new(), ByProvider::new());
        }
        let named = self.by_name.get(relation.name.as_str());
        let real = named
            .into_iter()
            .flatten()
            .copied()
            .filter(|index| relation.admits(Some(&self.records[*index].version)))
            .collect();
        let mut virtuals = ByProvider::new();
        for (index, version) in self.provided.get(&relation.name).into_iter().flatten() {
            let record = self.records[*index];
            if relation.admits(version.as_ref()) && record.name != relation.name {
                virtuals.entry((record.priority, &record.name)).or_default().push(*index);
            }
        }
        (real, virtuals)
    }

    /// The version sets that satisfy a group of alternatives, best first.
    fn choices(&self, group: &[Relation]) -> Vec<VersionSetId> {
        let mut found = Vec::new();
        for relation in group {
            let (real, virtuals) = self.matches(relation);
            let bound = relation.version.as_ref();
            let text = bound.map_or("*".to_owned(), |(sign, version)| format!("{sign} {version}"));
            if !real.is_empty() {
                found.push(self.version_set(&relation.name, real, text));
            }
            for ((_, name), records) in virtuals {
                let text = format!("as {}", relation.name);
                found.push(self.version_set(name, records, text));
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|set| {
            let admitted = self.pool.resolve_version_set(*set);
            seen.insert((
                self.pool.resolve_version_set_package_name(*set),
                admitted.records.clone(),
            ))
        });
        found
    }

    /// For each package that `relation` forbids beside `own`, the records that stay allowed.
    fn exclusions(&self, own: &Record, relation: &Relation) -> Vec<VersionSetId> {
        let (real, virtuals) = self.matches(relation);
        let mut forbidden: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for index in real.into_iter().chain(virtuals.into_values().flatten()) {
            forbidden.entry(&self.records[index].name).or_default().insert(index);
        }
        forbidden.remove(own.name.as_str());
        let mut found = Vec::new();
        for (name, records) in forbidden {
            let all = self.by_name.get(name).into_iter().flatten().copied();
            let allowed = all.filter(|index| !records.contains(index)).collect();
            found.push(self.version_set(name, allowed, format!("beside {}", own.name)));
        }
        found
    }

    /// What `record` needs and forbids; the reason as text when nothing can satisfy it.
    fn needs(&self, record: &Record) -> Result<KnownDependencies, String> {
        let mut known = KnownDependencies::default();
        let parse = |field| parse_relations(field).map_err(|error| error.to_string());
        for field in &record.depends {
            for group in parse(field)? {
                let choices = self.choices(&group);
                match choices[..] {
                    [] => {
                        let names: Vec<String> = group.iter().map(Relation::to_string).collect();
                        return Err(format!("no suite has {}", names.join(" | ")));
                    }
                    [only] => known.requirements.push(only.into()),
                    [first, ref rest @ ..] => {
                        let rest = rest.iter().copied();
                        let union = self.pool.intern_version_set_union(first, rest);
                        known.requirements.push(union.into());
                    }
                }
            }
        }
        for field in &record.conflicts {
            for relation in parse(field)?.iter().flatten() {
                known.constrains.extend(self.exclusions(record, relation));
            }
        }
        Ok(known)
    }
}

impl Interner for Catalogue<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, id: SolvableId) -> impl fmt::Display + '_ {
        &self.record(id).version
    }
    fn display_name(&self, name: NameId) -> impl fmt::Display + '_ {
        self.pool.resolve_package_name(name)
    }
    fn display_version_set(&self, set: VersionSetId) -> impl fmt::Display + '_ {
        self.pool.resolve_version_set(set)
    }
    fn display_string(&self, id: StringId) -> impl fmt::Display + '_ {
        self.pool.resolve_string(id)
    }
    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(set)
    }
    fn solvable_name(&self, id: SolvableId) -> NameId {
        self.pool.resolve_solvable(id).name
    }
    fn version_sets_in_union(
        &self,
        union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }
    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Catalogue<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let admitted = self.pool.resolve_version_set(set);
        let fits =
            |id: &SolvableId| admitted.records.contains(&self.pool.resolve_solvable(*id).record);
        candidates.iter().copied().filter(|id| fits(id) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let records = self.by_name.get(self.pool.resolve_package_name(name).as_str())?;
        Some(Candidates {
            candidates: records.iter().map(|index| self.solvables[*index]).collect(),
            hint_dependencies_available: HintDependenciesAvailable::None,
            ..Candidates::default()
        })
    }

    /// Highest version first.
    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_by(|a, b| self.record(*b).version.cmp(&self.record(*a).version));
    }

    async fn get_dependencies(&self, id: SolvableId) -> Dependencies {
        match self.needs(self.record(id)) {
            Ok(known) => Dependencies::Known(known),
            Err(reason) => Dependencies::Unknown(self.pool.intern_string(reason)),
        }
    }
}

//! Faults that tests can switch on, one in a process, to see that they are caught.

/// A way in which the engine could be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests switch them on"))]
pub(crate) enum Fault {
    FileNotRecorded,
    NodeNotRecorded,
    AbsenceNotRecorded,
    EnvNotRecorded,
    ListingNotRecorded,
    TreeNotRecorded,
    EffectNotRecorded,
    ToolNotRead,
    VersionNotInTool,
    RacyStatTrusted,
    TimesIgnored,
    OnlyFirstReadVerified,
    LeavesNotVerified,
    StagedIgnored,
    StoredHitLeavesStaged,
    PassingEffectStored,
    ForgottenEffectRecalled,
    ShallowRoots,
    RootsIgnoreEnv,
    RootsIgnoreOwnFile,
    ContradictedRootsKept,
    InputsNotRefreshed,
    StateNotForgotten,
    EveryMemoEqual,
    InputsOfEffectsNotChecked,
    OtherContentReturned,
    UnitRowReplaced,
    DigestsNotFramed,
    ChecksumsNotChecked,
    SignaturesNotChecked,
    SecretsNotKeyed,
}

/// Whether this fault is switched on.
#[cfg(not(test))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}

/// Whether this fault is switched on.
#[cfg(test)]
pub(crate) fn is(fault: Fault) -> bool {
    static ON: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("CLNRM_FAULT").ok());
    ON.as_ref().is_some_and(|on| *on == format!("{fault:?}"))
}

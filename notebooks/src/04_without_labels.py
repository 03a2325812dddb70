# %% [markdown]
# # Without labels: what can still be said of strangers and owners?
#
# **Question.** Nobody has looked at a single face. What can honestly be said of strangers who
# match and of owners who are turned away, under which assumption, and what should be labelled
# first?
#
# **Data.** Scores, and the four thresholds that came with each; sessions and times for the part on
# people who try again.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
IMPOSTOR_SHARE = 0.025  # your own assumption: at most this share of comparisons are strangers
CANDIDATE = 75.0  # the threshold that labels shall help to judge
BUDGET = 600  # judgements that reviewers can make

# %%
import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
if v["req_key"].notna().any():
    v = v[v["req_key"].notna()]  # answers of an unknown request belong to no decision
implied = va.bounds.implied_fmr(v)
implied[["regime", "score", "says", "meaning"]].head(4)

# %% [markdown]
# All rests on one thing: with each answer the vendor prints four scores and claims that a stranger
# reaches them once in a thousand, …, once in a million tries. Between them the claim is read off a
# straight line. It says how rarely a stranger scores so high. It does **not** say how likely it is
# that a person with this score is a stranger: that depends on how many strangers try.
#
# ## The bounds

# %%
bounds = va.bounds.label_free(v, threshold=range(60, 96))
axes = va.charts.bounds.label_free(bounds, lang=LANG)

# %%
at_own = va.bounds.label_free(v, nominal_fmr=[1e-3, 1e-4, 1e-5])
at_own[["regime", "claimed_fmr", "threshold", "k", "n_compared", "n_below", "impostors_high",
        "false_matches_high", "fnmr_low", "fnmr_high"]]  # fmt: skip

# %% [markdown]
# **Reading.** Strangers nearly all score below `1e-3`, so the rows there bound how many tried
# (`impostors_high`). That many strangers, times the claim at a threshold, bound how many of them
# matched: `false_matches_high`, for the claim as it is (`k` = 1) and for a claim that is wrong by
# 3 or by 10. Owners below the threshold are at most all who are below it (`fnmr_high`) and at
# least those between `1e-3` and the threshold whom strangers cannot explain (`fnmr_low`).
#
# So owners turned away are known well, whatever `k` is; strangers let in are known as well as the
# claim is. Never quote one `k`: without labels nobody knows which row is true.
#
# ## What an assumption of your own adds

# %%
capped = va.bounds.label_free(v, nominal_fmr=1e-4, k=[3], impostor_share=IMPOSTOR_SHARE)
plain = at_own[(at_own["k"] == 3) & at_own["claimed_fmr"].between(9e-5, 1.1e-4)]
both = plain.merge(capped, on=["regime", "k"], suffixes=("", "_assumed"))
both[["regime", "impostors_high", "impostors_high_assumed", "fnmr_low", "fnmr_low_assumed",
      "fnmr_high"]]  # fmt: skip

# %% [markdown]
# **Reading.** Who assumes that strangers are rare calls more of the low scores owners: the lower
# bound rises. It is your assumption, it stands beside every number made with it, and where it is
# wrong the bound is wrong: with 0.01 the third row's lower bound would be 4.2 %, while the labels
# of this sample say 3.4 %.
#
# ## Who tries more than once

# %%
va.attempts.exposure([1e-4, 1e-5], [1, 3, 10])

# %%
va.attempts.retry_then_pass(v).query("k == 3")[
    ["regime", "n_sessions", "n_then_passed", "expected_by_chance", "n_floor", "says"]
]

# %% [markdown]
# **Reading.** A stranger who may try ten times has up to ten chances. `attempts_per_person` is
# already in the bounds above. The second table turns tries into evidence: visits in which somebody
# missed the threshold and matched minutes later. Strangers would do so hardly ever
# (`expected_by_chance`), so nearly all of them were owners who had been turned away wrongly, if
# one person made both tries.
#
# ## What to label first

# %%
plan = va.labels.plan(v, threshold=CANDIDATE, budget=BUDGET)
plan["stratum"] = plan["stratum"].str.split(" | ", regex=False).str[1:].str.join(", ")
plan.groupby("stratum", sort=False).agg(
    judgements=("request_id", "size"), least_chance=("inclusion_prob", "min"),
    most_chance=("inclusion_prob", "max"),
).sort_index()  # fmt: skip

# %% [markdown]
# **Reading.** Rows around the thresholds are looked at several times as closely as the crowd above
# `1e-6`. Give reviewers the request ids of `plan` and nothing else; some come twice, and
# some have a known truth, so that the reviewers themselves are measured. What they found goes in
# with `verifyanalytics labels FILE`, with `plan_id` and `inclusion_prob` as the plan has them;
# then read the notebook on labels.
#
# **Caveats.**
# - Zero-effort strangers only: no masks, screens, injected video, and no chosen look-alikes or
#   twins. Neither liveness nor risk is applied: a false match here is not yet an accepted one.
# - A vendor's claim was measured on the vendor's faces. Yours may be harder: that is what `k` is
#   for, and only labelled strangers can tell it (`va.accuracy.claim_audit`).
# - Below `1e-3` the vendor claims nothing: there no bound on false matches is given.
# - No curve was fitted to find a hump of strangers. Such fits invent strangers where there are
#   none.

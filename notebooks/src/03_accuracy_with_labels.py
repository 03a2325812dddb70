# %% [markdown]
# # With labels: how often do strangers match and owners fail?
#
# **Question.** Some answers were looked at by a person. How often do strangers match and owners
# get turned away at each threshold, and how much of that can these labels carry?
#
# **Data.** Verifications, and labels for some of them (`verifyanalytics labels FILE`): here an
# audit of the sample, and a few reports of fraud.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
CONFLICT = "latest"  # where labellers differ: "raise", "latest", "majority" or "drop"

# %%
import verifyanalytics as va

store = va.Store(STORE)
v, labels = store.read("verifications"), store.read("labels")
truth = va.labels.join(v, labels, conflict=CONFLICT)
labels.groupby("origin").agg(
    labels=("request_id", "size"), strangers=("mated", lambda m: int(m.eq(False).sum())),
    attacks=("attack", "count"), with_probability=("inclusion_prob", "count"),
)  # fmt: skip

# %% [markdown]
# Only an audit draws its rows, each with a known probability. Fraud cases are reported: they are no
# draw, and nobody reports an owner. So the rates below are those of the audited rows, each weighted
# by the inverse of its probability. Attacks stay out of them whatever else is known.
#
# ## Who was looked at

# %%
coverage = va.labels.coverage(truth)
coverage.loc[
    coverage["kind"] == "score_band",
    ["regime", "band", "n_rows", "n_labelled", "labelled_share", "n_mated", "n_nonmated", "reason"],
]

# %% [markdown]
# **Reading.** Shares may differ, on purpose: in the sample tenfold, because the audit looked harder
# where errors are decided. With known probabilities that is sound. Without them every rate below
# would be empty and say `selected_labels`: labels on accepted rows alone make every FNMR 0.
#
# ## Error rates at the vendor's thresholds

# %%
rates = va.accuracy.error_rates(truth)
rates[["regime", "nominal_fmr", "n_false_matches", "n_nonmated", "fmr_says", "fmr_low", "fmr_high",
       "n_false_nonmatches", "n_mated", "fnmr_says", "fnmr_low", "fnmr_high"]]  # fmt: skip

# %%
scores = [50, 55, 60, 62, 66, 70, 72, 76, 80, 82, 86, 90, 92, 95]
axes = va.charts.accuracy.error_rates(va.accuracy.error_rates(truth, thresholds=scores), lang=LANG)

# %% [markdown]
# **Reading.** The bands say what these labels know. In the sample blue is known well: hundreds of
# owners were looked at. Orange is a shock: one stranger in ten, or more, is said to match where the
# vendor claims one in ten thousand, and up to the `1e-5` threshold the curve hardly falls. Before
# the vendor is blamed, look at the rows that say so.
#
# ## The false matches, one by one

# %%
audited = truth[truth["inclusion_prob"].notna() & truth["attack"].isna() & truth["mated"].notna()]
matching = audited[(audited["score"] >= audited["threshold_1e_4"]).fillna(False)]
said_strangers = matching[~matching["mated"].astype(bool)]
said_strangers[["req_key", "score", "threshold_1e_4", "result", "inclusion_prob", "labeller"]]

# %%
matching.groupby("labeller").agg(
    looked_at=("mated", "size"), said_strangers=("mated", lambda m: int(m.eq(False).sum()))
).assign(share=lambda t: t["said_strangers"] / t["looked_at"])

# %% [markdown]
# **Reading.** Scores that are spread as those of owners are, and a few in the rows of every
# reviewer, speak of slips. In the sample it is one row in 170 to one in 400 of those that match; as
# many would come of slips alone, if a careful reviewer is wrong once in 200. And so it was made:
# one label in 200 is wrong, and the vendor's claim holds. Where nearly everybody is an owner, an
# audit of ordinary traffic measures the reviewers, not the false-match rate, and no larger audit of
# the same kind helps. What does:
#
# - a second person looks at these few rows (`va.labels.plan` plans second reviews and known
#   rows; `va.labels.estimate` corrects by them);
# - strangers made on purpose: compare people who are known to be different.

# %%
audit = va.accuracy.claim_audit(truth)
audit[["regime", "nominal_fmr", "n_nonmated", "n_false_matches", "k_hat", "k_low", "believe",
       "reason"]]  # fmt: skip

# %% [markdown]
# **Reading.** `k_hat` is by what factor the labels, taken at their word, refute the claim, and
# `believe` which row of the bounds without labels they leave. In the sample it is a thousand
# and more at `1e-4`, and none. Suppose the second look finds that all of these rows are owners
# after all:

# %%
second = truth.copy()
second.loc[second["request_id"].isin(said_strangers["request_id"]), "mated"] = True
after = va.accuracy.error_rates(second)
after.loc[
    after["nominal_fmr"] == 1e-4,
    ["regime", "n_false_matches", "n_nonmated", "fmr_says", "fnmr_says", "reason"],
]

# %% [markdown]
# **Reading.** Then no false match is left, and what may be printed is a bound: in the sample so few
# strangers can rule out only rates of 5 to 25 per cent. The vendor's claims lie a thousand times
# lower, out of reach. How many strangers would reach them:

# %%
va.accuracy.sample_size([1e-2, 1e-3, 1e-4, 1e-5])[["fmr", "n_to_claim", "n_to_measure"]]

# %% [markdown]
# `n_to_claim` strangers without one false match show that the rate is at most so (95 %);
# `n_to_measure` give it to ± 30 %.
#
# ## Both errors against each other

# %%
curves = va.accuracy.det_curve(truth, assume_random=True)
axes = va.charts.accuracy.det_curve(curves, lang=LANG)

# %% [markdown]
# **Reading.** Down and to the left is better. Circles are measured, diamonds stand at the claim.
# The curve counts each labelled row once: rows were drawn with unequal probability, so without
# `assume_random=True` it would be empty (`unequal_inclusion`). Low scores were drawn more often,
# so its FNMR is above the weighted one in the table. Read the shape, quote the table.
#
# ## What it means for the threshold

# %%
table = va.scores.decision_table(v, truth=second)
table.loc[
    table["reason"].eq("") & table["label_reason"].eq(""),
    ["regime", "threshold", "claim_says", "n_more_turned_away", "fnmr_bound_low_k10",
     "fnmr_bound_high", "fnmr_says", "fmr_says", "false_matches_high_k3"],
]  # fmt: skip

# %% [markdown]
# **Reading.** What a threshold costs owners is known twice: from labels (`fnmr_says`) and without
# them (between `fnmr_bound_low_k10` and `fnmr_bound_high`); in the sample the two agree, but for a
# point or two at 92 where no source was compared. What it lets in is known from the claim alone
# (`false_matches_high_k3`: if false matches are three times as frequent as claimed). That is how
# these labels can be used: to price a stricter threshold, not to prove it safe.
#
# **Caveats.**
# - Rates are about strangers without effort. Attacks are counted apart:
#   `va.accuracy.detection_rates(truth)`, of the audited rows and weighted alike. Fraud cases were
#   accepted by their nature: they are no sample of attacks.
# - Weighted rates rest on few rows where the probability is small: one wrong label of a row drawn
#   with probability 0.1 counts ten times. Hence the wide intervals of FMR.
# - Whoever tries again is several rows; the intervals allow for it where `subject` is known.
# - `second` supposes the outcome of a second look that nobody took. With your own data, take it.

# %% [markdown]
# # Risk tags: what do they go with, and what does each add?
#
# **Question.** Which tags stand on answers that fail, which of them say the same thing twice, and
# what would be missed if one were left out?
#
# **Data.** The risk tags of each answer, and what became of it. No labels are needed.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
OUTCOME = "non_match"  # "non_match", "rejected", or a column of true and false

# %%
import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
rates = va.tags.rates(v)
rates[
    ["tag", "name_en", "name_zh", "family", "known", "n", "n_tag", "tag_rate", "n_risk_not_asked"]
]

# %% [markdown]
# Tags are an open set: one that the code book does not know is listed with `known` false, and taken
# along in everything below.
#
# ## What a tag goes with

# %%
lift = va.tags.lift(v, OUTCOME)
lift[["tag", "n_tag", "n_both", "precision", "lift", "lift_low", "lift_high", "n_subjects",
      "p_adjusted", "significant", "basis", "reason"]]  # fmt: skip

# %%
if lift["lift"].notna().any():
    ax = va.charts.tags.lift(lift, lang=LANG)

# %% [markdown]
# **Reading.** A lift of 2: the outcome is twice as frequent with the tag as over all. Where the
# interval crosses 1, these data cannot tell the tag from chance. Tests are made on one row a
# person, the last, and adjusted for the number of tags; ten tries of one person do not count as
# ten. Nobody has labelled these rows, so this is **association**: a tag that goes with non-matches
# may mark poor cameras as well as strangers. In the sample every interval holds 1: over the three
# months no tag goes with non-matches.
#
# ## The same against the vendor's verdict

# %%
against = va.tags.lift(v, "rejected")
if against["lift"].notna().any():
    ax = va.charts.tags.lift(against, lang=LANG)

# %% [markdown]
# **Reading.** This one is **circular**, and says so: a high risk score rejects by itself, and tags
# make the risk score. Rows whose only failing gate is risk are left out (`n_only_risk`), and what
# remains of such a tag are the rows that failed for another reason as well: of course they were
# rejected. Use it to see what the vendor's rule does, never to judge a tag.
#
# ## The risk score itself

# %%
bands = va.tags.risk_bands(v, outcome=OUTCOME)
bands[["band", "n", "n_outcome", "outcome_rate", "outcome_rate_low", "outcome_rate_high", "lift",
       "woe", "gain", "depth", "auc", "direction", "ks", "iv", "smoothing"]]  # fmt: skip

# %%
if bands["n"].sum():
    ax = va.charts.tags.risk_bands(bands, lang=LANG)

# %% [markdown]
# **Reading.** The direction of the score is estimated, not assumed; "not evident" means that
# dealing the outcome out by chance gives such an AUC in more than 5 of 100 cases. `woe` is above 0
# where a band has more of the outcome than the whole.
#
# ## Tags that say the same

# %%
pairs = va.tags.pairs(v)
pairs[["tag_a", "tag_b", "n_a", "n_b", "n_both", "lift", "phi", "jaccard"]].head(8)

# %%
if len(pairs):
    ax = va.charts.tags.pairs(pairs, lang=LANG)

# %% [markdown]
# **Reading.** Two tags with a high φ are nearly one: acting on both catches little more than
# acting on either. In the sample a proxy and an uncommon IP range are the closest pair. What each
# one adds is counted here:

# %%
catch = va.tags.catch(v, OUTCOME)
catch[["step", "tag", "n_new_hits", "n_new_outcome", "marginal_precision", "n_caught", "catch_rate",
       "hit_share", "n_unique_hits", "n_unique_outcome"]]  # fmt: skip

# %%
if catch["n_outcome"].sum():
    ax = va.charts.tags.catch(catch, lang=LANG)

# %% [markdown]
# **Reading.** The order is by what is *new*, not by precision. Where the bar ends at the grey tick,
# tags set at random would have caught as much. In the sample none gets past it by more than its
# interval, as the lifts above have it.
#
# ## Scores with a tag and without it

# %%
scores = va.tags.scores(v)
scores = scores[scores["n_scored_with"] > 0]
if len(scores):
    largest = scores.groupby("regime")["n_without"].sum().idxmax()
    axes = va.charts.tags.scores(scores[scores["regime"] == largest], lang=LANG)

# %% [markdown]
# **Caveats.**
# - The vendor says neither how tags are made nor when that changes: a rate that jumps may be
#   theirs.
# - Rows without a risk result are counted (`n_risk_not_asked`) and in no rate.
# - With labels, `va.tags.lift(va.labels.join(v, labels), "attack")` speaks of attacks instead of
#   non-matches, and of the labelled rows only: mind how those were chosen.

# %% [markdown]
# # First look: where do the scores stand, and what do the risk tags say?
#
# **Question.** How are the comparison scores distributed against the four thresholds that the
# vendor prints with every answer, how much passes at each of them, and which risk tags come how
# often?
#
# **Data.** A store of verifications; here the sample, three months of a population that was
# simulated: no person in it exists. `verifyanalytics notebooks DIR` writes this notebook for a
# store of your own.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"

# %%
import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
va.scores.regimes(v)

# %% [markdown]
# A **regime** is the request key together with its four thresholds. Scores may be compared inside a
# regime only, so nothing below pools two of them. Rows of `incomplete` carry no full set of
# thresholds: faults of the service, and people turned away before any comparison. They are counted,
# never rated.

# %% [markdown]
# ## Scores against the thresholds

# %%
histogram = va.scores.histogram(v, by="result")
axes = va.charts.scores.histogram(histogram, lang=LANG)

# %% [markdown]
# **Reading.** Each rule is a score with a *claimed* false-match rate: at `1e-4` the vendor says
# that one comparison of strangers in 10,000 scores as high. Where most people are who they say they
# are, the hump on the right is theirs; what lies far below `1e-3` may be strangers, or owners in
# bad light. Colours are the vendor's own verdict: where they change shows the rule it really
# follows.
#
# In the sample they change at the `1e-4` threshold where a source photo was compared, and at 90
# where none was.

# %%
va.scores.vendor_thresholds(v)[
    ["regime", "level", "threshold", "first_at", "n", "n_match", "match_rate", "match_rate_low",
     "match_rate_high", "n_without_score"]
]  # fmt: skip

# %%
axes = va.charts.scores.vendor_thresholds(va.scores.vendor_thresholds(v), lang=LANG)

# %% [markdown]
# **Reading.** A step is a change by the vendor. The same score stands for another false-match rate
# from that day on: a threshold that you set as a score has to be set again. In the sample all four
# rose by two points on 16 May.

# %% [markdown]
# ## How much passes at which threshold

# %%
rates = va.scores.match_rates(v, thresholds=range(50, 100))
axes = va.charts.scores.match_rates(rates, lang=LANG)

# %% [markdown]
# **Reading.** The curve is the share of comparisons at or above a score; it falls as the threshold
# rises, and what it falls by is turned away. Comparisons whose score the vendor withheld count as
# not matching; above the regime's own `1e-4` the band allows that some would have matched, and is
# the wider for it.

# %%
axes = va.charts.scores.match_rates(
    va.scores.match_rates(v, nominal_fmr=[1e-3, 1e-4, 1e-5], every="week"), lang=LANG
)

# %% [markdown]
# **Reading.** At an equal *claimed* false-match rate the regimes may stand in one line. A week that
# falls out of it asks for a cause: a version of the app, a channel, light, or people who are not
# who they say they are. In the sample the week of 3 June does; the notebooks on drift and on the
# weekly report come back to it.

# %% [markdown]
# ## Risk tags

# %%
tags = va.tags.rates(v)
if len(tags):
    axes = va.charts.tags.rates(tags, lang=LANG)

# %%
if len(tags):
    axes = va.charts.tags.rates(va.tags.rates(v, every="week"), lang=LANG)

# %% [markdown]
# **Reading.** Shares are of the answers that carry a risk result; an answer may carry several
# tags. Bars and bands are 95 % intervals: where they overlap widely, an order among tags is not
# there yet. A hollow dot is a tag that the code book does not know.
#
# **Caveats.**
# - Nobody has labelled these rows. A score below a threshold is not proof of a stranger, and a tag
#   is an association, not a finding.
# - The false-match rates are the vendor's claims about strangers who try without effort. They say
#   nothing of masks, screens and injected video, which are the business of `alive` and the tags.
# - People who tried again are several rows. The intervals take rows for independent.

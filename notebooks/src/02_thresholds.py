# %% [markdown]
# # Thresholds: where could the threshold stand?
#
# **Question.** If the threshold stood elsewhere than at the vendor's `1e-4` point, how many would
# pass, who would be let in or turned away, and what could be said of strangers among them, as long
# as nobody has labelled a row?
#
# **Data.** Scores, and the four thresholds that came with each. No labels are needed.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
CANDIDATE = 75.0  # the threshold to try, a score of 0 to 100
PER_MONTH = 1  # zero-effort false matches that you would bear in a month
SEGMENT = "ctx_channel"  # a column to choose groups by, if the store has it

# %%
import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
va.scores.vendor_thresholds(v)[
    ["regime", "level", "threshold", "n", "n_match", "match_rate", "n_withheld", "reason"]
]

# %% [markdown]
# ## What passes at which threshold

# %%
rates = va.scores.match_rates(v, thresholds=[x / 2 for x in range(100, 197)])
axes = va.charts.scores.match_rates(rates, lang=LANG)

# %% [markdown]
# **Reading.** Where a curve is flat, a threshold costs little; where it bends down, every point
# more turns owners away. Each regime has a panel of its own, because one score means another
# false-match rate in each of them. To compare regimes, compare them at an equal claim:

# %%
axes = va.charts.scores.match_rates(va.scores.match_rates(v), lang=LANG)

# %% [markdown]
# ## How much stands close to a threshold

# %%
near = va.scores.margins(v, widths=(1, 5))
near[near["level"] == "1e-4"]

# %% [markdown]
# **Reading.** `n_below` are those who missed the threshold by so little, `n_above` those who only
# just made it. Many in both: a small move changes many answers, and the light in a corridor may
# decide. Few: the exact place of the threshold hardly matters.

# %% [markdown]
# ## What the candidate would change

# %%
changed = va.scores.what_if(v, threshold=CANDIDATE)
changed = changed[changed["regime"] != "incomplete"]
lines = changed.pivot_table(index=["regime", "unit"], columns="line", values="n", sort=False)
lines.astype("Int64")

# %% [markdown]
# **Reading.** The first line of each regime, `reproduced`, counts the answers whose own gates give
# the vendor's verdict: what those gates do not explain, no threshold will. Then, against today's
# `1e-4`: who passes `both`, `only_old` (would be turned away), `only_new` (would be let in),
# `neither`. Sessions are persons' visits: somebody who tries again and passes was not lost, and
# `not_needed` are answers, and bills, after the one that would have let them in.
#
# In the sample 75 would turn away 228 and 191 visits with a source photo, and let nobody in.
# Without one it would change nothing: there the vendor follows a rule of its own (`unexplained`).

# %% [markdown]
# ## What can be said of strangers

# %%
bounds = va.bounds.label_free(v, threshold=CANDIDATE)
bounds[["regime", "threshold", "k", "claimed_fmr", "n_compared", "false_matches_high", "fnmr_low",
        "fnmr_high"]]  # fmt: skip

# %%
timed = v[v["occurred_at"].notna()]  # a month needs a time
budget = va.bounds.threshold_for_budget(timed, false_matches_per_month=PER_MONTH)
budget[["regime", "k", "threshold", "false_matches_per_month_high", "n_more_turned_away",
        "reason"]]  # fmt: skip

# %% [markdown]
# **Reading.** If the vendor's claim holds up to a factor `k`, at most `false_matches_high` of these
# answers are strangers who matched without effort, and between `fnmr_low` and `fnmr_high` of the
# owners fall below the candidate. The second table turns the question round: the smallest
# threshold that keeps within the monthly budget. No row of the three is *the* answer; labels tell
# which `k` to believe.

# %% [markdown]
# ## Under your hand
#
# Move the slider (arrow keys work too), or type a score; choose a regime and a group. The field
# below the picture holds the calls that give the same numbers. Where a notebook is only read, the
# picture stands still.

# %%
va.tune(v, by=SEGMENT if SEGMENT in v else None, threshold=CANDIDATE, lang=LANG)

# %% [markdown]
# **Caveats.**
# - Match rate is no accuracy: among those who pass there are strangers, among those who fail there
#   are owners. How many, only labels tell.
# - The bounds speak of strangers who try without effort. Masks, screens, injected video and chosen
#   look-alikes are not in them, and neither liveness nor risk is applied.
# - A what-if holds liveness, risk and people's behaviour fixed. People who are turned away try
#   again, and that is not in these rows.

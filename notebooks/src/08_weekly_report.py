# %% [markdown]
# # Weekly report: what do I tell the risk team this week?
#
# **Question.** Did more or fewer people pass than the week before, by how much more than chance
# would do it, what explains it, and what has to be said along with it?
#
# **Data.** Verifications of two weeks or more; here the one week of the sample in which something
# happened.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts, and the report: "en", "zh" or "both"
PERIOD = "2024-W23"  # an ISO week by name; "week": the last one that the data cover whole
BY = "req_key"  # what tells who came: a column, as "ctx_channel"
OUT = "out/report"  # the folder of the report

# %% [markdown]
# ## The report

# %%
from IPython.display import display

import verifyanalytics as va

store = va.Store(STORE)
made = va.report(store, OUT, period=PERIOD, by=BY, lang=LANG)
print(made.paths[0].name, "compares with", made.compared or f"nothing: {made.alone}")

# %% [markdown]
# That file is the answer for those who do not program: one page to be mailed, printed or archived.
# What follows are the functions behind its first page, for whoever has to answer the questions that
# it raises.
#
# ## Is this week like the others?

# %%
v = store.read("verifications")
week = v["occurred_at"].dt.tz_convert("Asia/Shanghai").dt.strftime("%G-W%V")
now, before = v[week == made.period], v[week == made.compared]
axes = va.charts.verdicts.acceptance_rate(va.verdicts.acceptance_rate(v, every="week"), lang=LANG)

# %%
va.verdicts.minimal_change(now)[
    ["regime", "measure", "n_rows", "n_subjects", "rate", "deff", "minimal_change"]
]

# %% [markdown]
# **Reading.** Look along the line before looking at its end: weeks differ by chance, and the band
# says by how much. `minimal_change` is the smallest difference that a week of this size would show
# in four cases of five. Below it nobody can say "unchanged", only "no evidence of change". At a
# rate of 0 or 1 none is named: the formula behind it says nothing there.
#
# In the sample the week is far out: the drop is nearly twice the least that would show.
#
# ## Did other people come, or did the same people fare differently?

# %%
columns = ["part", BY, "n_previous", "n_current", "rate_previous", "rate_current", "mix", "rate",
           "change", "change_low", "change_high"]  # fmt: skip
if len(before):
    explained = va.verdicts.change_explained(before, now, by=BY)
    display(explained.loc[explained["change"].abs() >= 0.005, columns])  # half a point or more

# %% [markdown]
# **Reading.** The first row is the whole change with its interval; `mix` is the part that comes of
# who came, `rate` the part that comes of how they fared. The rows below split the same change by
# the gate that turned people away, then by group. Intervals here take rows for independent; those
# of the report allow for people who tried again and are wider.
#
# In the sample one point of eleven is mix: more people came without a source photo, and fewer of
# those pass. The rest is rate, at two places: scores below the `1e-4` threshold, and rejections
# although all gates pass.
#
# ## Why were people turned away?

# %%
axes = va.charts.verdicts.funnel(va.verdicts.funnel(now), lang=LANG)

# %%
va.verdicts.contradictions(now)[["regime", "kind", "meaning", "n_rows", "n_of", "share"]]

# %%
rules = va.verdicts.result_rule(now).drop_duplicates("regime")
rules[["regime", "rule", "n_agree", "n_rows", "agreement", "agreement_low"]]

# %% [markdown]
# **Reading.** The funnel counts each answer once, at the first gate that it failed. What passes all
# gates and is rejected all the same is *unexplained*, and listed rather than guessed at; the last
# table is the simple rule that agrees best with the vendor's verdict, which often tells why.
#
# In the sample it does: where no source photo is compared, the vendor follows a threshold of 90,
# not `1e-4`, and nearly all that is unexplained stands there. So both places of the table above are
# one: scores were lower that week, and more of them fell below 72 or, without source, below 90.
#
# ## Was it the vendor, the tags, or the data?

# %%
events = va.stability.regime_changes(v)
between = events["changed_to"].between(*now["occurred_at"].agg(["min", "max"]))
print("changes of thresholds in the period:", int(between.sum()))

# %%
lift = va.tags.lift(now)
lift[["tag", "n_tag", "n_both", "lift", "lift_low", "lift_high", "significant", "reason"]].head()

# %%
rejects = store.read("rejects")
rejects.groupby("reason", as_index=False).agg(n=("source_row", "size")).sort_values(
    ["n", "reason"], ascending=[False, True]
)

# %% [markdown]
# **Reading.** A change of thresholds would explain much at once, so it is asked first. A tag with a
# lift goes with non-matches, on however few rows stand in `n_tag`; it is an association. Responses
# that could not be read have no time of their own and are those of the whole store: if their number
# jumps, the week lacks them.
#
# In the sample there was no change of thresholds, and the one tag that stands out does so on nine
# answers: too few to be the cause.
#
# ## What to write
#
# Five sentences carry a week: how many passed, with the interval of the difference; mix or rate;
# which gate; what was looked for and not found; who does what next. For the sample:
#
# > Acceptance fell from 73.1 % to 62.3 % in week 23: −10.9 points (95 % interval −15.0 to −6.7).
# > More requests without a source photo account for one point, lower scores for nearly all of the
# > rest. No thresholds changed, and no risk tag stands on enough rows to be the cause. In week 24
# > acceptance was back at 76.1 %. We ask the vendor what was deployed between 3 and 9 June, and
# > look through our own releases of that week.
#
# **Caveats.**
# - Acceptance is no accuracy: nobody has labelled these rows, so how many of those turned away were
#   owners is not in them. The notebook without labels says what bounds there are.
# - Each figure has its own 95 %: of twenty without any change about one will look changed.
# - That week 24 was better is known because the sample goes on. In the week itself the honest words
#   are: we do not know yet.

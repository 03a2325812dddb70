# %% [markdown]
# # Drift: is this week like the others?
#
# **Question.** Do scores, risk and images keep their distribution, when did the vendor change its
# thresholds, and what should somebody look at?
#
# **Data.** Verifications of several weeks, with their times.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
EVERY = "week"  # "day", "week" or "month"

# %%
import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
events = va.stability.regime_changes(v)
shown = "kind regime_before regime_after changed_from changed_to n_before n_after n_mixed "
shown += "shift_1e_4"
events[shown.split()]

# %% [markdown]
# **Reading.** A change of regime is an event, not drift: the same person gets another score's
# meaning from that moment on. It lies between the last answer of the old regime and the first of
# the new one. Everything below stays inside a regime.
#
# ## Week by week

# %%
weeks = va.stability.over_time(v, every=EVERY)
if weeks.loc[weeks["column"] == "score", "psi"].notna().any():
    axes = va.charts.stability.over_time(weeks, lang=LANG, events=events)

# %% [markdown]
# **Reading.** PSI holds each week against the first whole week of its regime, on bins that the
# vendor's thresholds make; answers without a score are a bin of their own. The dashed limit is the
# larger of 0.1 and what two samples of this size differ by in one case of twenty: small weeks have
# a higher one. Partial weeks are not compared.

# %%
shown = "period regime column n_reference n_current psi critical deff smoothing largest_bin "
shown += "share_reference share_current ks wasserstein"
weeks.loc[weeks["alert"], shown.split()]

# %% [markdown]
# `largest_bin` says where it moved, `wasserstein` by how many points. Before blaming the vendor,
# ask what changed on your side: a version of the app, a channel, who came.

# %%
loud = weeks[weeks["alert"] & (weeks["column"] == "score")]["period"]
if len(loud):
    change = v.assign(this=v["occurred_at"].dt.tz_convert("Asia/Shanghai").dt.strftime("%G-W%V"))
    before, now = change[change["this"] < loud.iloc[0]], change[change["this"] == loud.iloc[0]]
    causes = ["risk_score", "face_brightness", "face_clarity", "face_comprehensive_score"]
    causes += [name for name in v.columns if name.startswith("ctx_")]
    axes = va.charts.stability.drift(va.stability.drift(before, now, ["score", *causes]), lang=LANG)

# %% [markdown]
# **Reading.** The first week with an alert against all weeks before it, with what else might
# explain it. `va.verdicts.change_explained` splits a change of the acceptance rate into who came
# and how
# they fared. In the sample the images and channels stayed as they were, and the app's versions
# moved, as they do all the time: newer ones replace older ones.
#
# ## What somebody should look at

# %%
alerts = va.stability.alerts(
    drift=weeks,
    events=events,
    volume=va.operations.volume(v),
    latency=va.operations.latency(v),
    bursts=va.attempts.bursts(v),
)
for alert in alerts.itertuples():
    print(f"{alert.severity:9} {alert.sentence}\n{'':9} {alert.sentence_zh}")

# %% [markdown]
# **Caveats.**
# - No alert is not "no change": `va.verdicts.minimal_change` tells what these data could have
# shown.
# - A bin that is empty on one side makes PSI infinite. Then 0.5 is added to every bin, which
#   `smoothing` prints; other tools smooth otherwise, and their figures differ.
# - With many columns and weeks, one in twenty comparisons of small weeks passes its critical value
#   by chance; the floor of 0.1 is what keeps large weeks quiet.

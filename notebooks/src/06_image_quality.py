# %% [markdown]
# # Image quality: what do the pictures cost?
#
# **Question.** How many images are beyond the vendor's limits, what goes with poor ones, and which
# single limit, asked for at capture, would have helped most?
#
# **Data.** The grades that the vendor gives to the live face image and to the environment image.
# Images themselves are never kept.

# %% tags=["parameters"]
STORE = None  # a store's folder; None: VERIFYANALYTICS_STORE, else data/store
LANG = "en"  # labels of the charts: "en", "zh" or "both"
QUALITY = "face_brightness"  # the measure to discard by

# %%
import pandas as pd

import verifyanalytics as va

store = va.Store(STORE)
v = store.read("verifications")
limits = va.quality.limits(v)
limits[["image", "measure", "limit", "n", "n_missing", "n_beyond", "beyond_rate", "beyond_rate_low",
        "beyond_rate_high", "p05", "p50", "p95"]]  # fmt: skip

# %% [markdown]
# The source photo is not graded. For seven of the eleven measures the vendor states no limit. A
# measure that is missing is an image that was not graded, never a 0.

# %%
graded = limits["n"].sum() > 0
if graded:
    axes = va.charts.quality.limits(limits, lang=LANG)

# %% [markdown]
# ## What goes with poor images

# %%
bands = pd.concat([va.quality.bands(v, m) for m in ("brightness", "clarity")], ignore_index=True)
if graded:
    axes = va.charts.quality.bands(bands, lang=LANG)

# %% [markdown]
# **Reading.** Bands hold equal shares of the answers as far as equal values allow; the vendor's
# limit lies in the shaded one. The match rate is over comparisons at the row's own `1e-4`
# threshold, the reject rate over verdicts, images that could not be compared among them.
#
# ## If the poorest images were not compared

# %%
discard = va.quality.error_versus_discard(v, QUALITY, nominal_fmr=1e-4)
if discard["n"].sum():
    axes = va.charts.quality.error_versus_discard(discard, lang=LANG)

# %% [markdown]
# **Reading.** From left to right more of the poorest images are left out, and the curve is what
# fails among the rest. A measure that knows the failures falls along the dashed line; one that
# knows nothing stays flat. Equal qualities leave together: all images that are bright enough are
# equal to the vendor's limit, so the curve is flat behind it. **Without labels this is a reject
# rate**, and a falling curve need not mean fewer errors: strangers may send dark pictures too.
#
# ## One limit at capture

# %%
coaching = va.quality.coaching(v)
shown = "image measure turned_away_if documented n_turned_away n_turned_away_rejected "
shown += "n_turned_away_accepted difference difference_low difference_high excess excess_low "
shown += "p_adjusted significant"
coaching[shown.split()].head(8)

# %%
if coaching["excess_low"].notna().any():
    ax = va.charts.quality.coaching(coaching, lang=LANG, top=8)

# %% [markdown]
# **Reading.** Each limit was chosen on the first half of the period and judged on the second, where
# it had no say. The price stands on the right: who was turned away for nothing had passed. The
# figures hold if who is sent back comes again with a picture like everybody else's.
#
# In the sample more light would help most, and five of six dark pictures had passed all the same.
#
# ## The two images of an answer

# %%
both = va.quality.face_vs_environment(v)
both[["measure", "n_both", "n_equal", "equal_rate", "n_face_higher", "n_env_higher", "limit",
      "n_beyond_face_only", "n_beyond_env_only", "n_beyond_both"]]  # fmt: skip

# %%
if both["n_both"].sum():
    ax = va.charts.quality.face_vs_environment(both, lang=LANG)

# %% [markdown]
# **Caveats.**
# - Equal grades to the last digit mean that the same picture was graded twice: then the environment
#   image adds nothing. In the sample that is six answers in ten.
# - The unit of pose is not stated by the vendor. It is used by magnitude only.
# - Intervals of bands take rows as independent; the coaching table counts persons.

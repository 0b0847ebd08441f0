"""Names of the data sets that come with an installed package."""

EMBEDDED = ("digits",)  # of scikit-learn

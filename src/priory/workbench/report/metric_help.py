"""An explanation of each metric, in one sentence, for people who do not know it."""

from priory.workbench.settings.model import MOST_LEVELS

HOW_TO_READ = {
    "nll": (
        "-log p(x) of a row, in nats: lower is better; compare it with other models of the same data and likelihood."
    ),
    "bits_per_dimension": "The NLL in bits per column: the length of a code for one value under this model.",
    "effective_sample_size": (
        "The effective number of importance samples in a row's estimate (median over rows): below 10 the NLL is too "
        "high by an unknown amount."
    ),
    "elbo": "The evidence lower bound of log p(x), in nats: higher is better; the NLL is below its negative.",
    "distortion": "-E log p(x | z), the loss of reconstructing the data from their codes, in nats: lower is better.",
    "rate": "KL(q(z | x) || p(z)), the length of a code in nats: the price of a lower distortion.",
    "index_code_mutual_information": "The part of the rate that identifies the row, at most log N.",
    "mutual_information_upper_bound": (
        "An estimate of the same for infinitely many rows; the true value lies between the two."
    ),
    "marginal_kl": (
        "The part of the rate that is wasted because the codes of all rows together do not follow the prior: "
        "near 0 is best, and a learned prior lowers it."
    ),
    "aggregate_rows": (
        "The number of evenly spaced rows whose codes form the aggregate posterior: all pairs would take too long."
    ),
    "active_units": "Dimensions of z whose posterior mean differs between rows: the others carry no information.",
    "prior_in_aggregate": (
        "The share of the prior's draws that lie among codes of data: 0.95 if the prior has no holes."
    ),
    "aggregate_in_prior": (
        "The share of the codes that lie where the prior is likely: 0.95 if the prior covers all codes."
    ),
    "effective_components": (
        "The number of distinguishable components of the prior, between 1 and the number of components."
    ),
    "used_components": "The number of components that the data use, as the perplexity of their usage.",
    "unused_weight": "The total weight of components that the data hardly use: near 0 is best.",
    "log_normalizer": (
        "The logarithm of the prior's normalizer Z, estimated by sampling. Its error shifts the NLL of all rows by "
        "the same amount, and the standard error of the NLL does not include it."
    ),
    "clusters": "The number of components of the prior that are the most likely one for at least one row.",
    "nmi": (
        "The normalized mutual information of clusters and the first label, which training did not use: 1 if they "
        "agree, near 0 by chance; it hardly falls if a class is split."
    ),
    "ari": (
        "The adjusted Rand index of clusters and the first label: 1 if they agree, 0 by chance; a split class lowers "
        "it."
    ),
    "trustworthiness": "1 if neighbors on the map are neighbors in the data too; 0.5 by chance.",
    "pca_trustworthiness": (
        "The trustworthiness of the plane of the first two principal components for the same rows: a map should have a "
        "higher one."
    ),
    "continuity": ("1 if neighbors in the data are neighbors on the map too; it falls if the map separates them."),
    "sampled_rows": (
        "The number of randomly drawn rows whose neighbors among all rows are compared. Trustworthiness and "
        "continuity are means over them, and their standard errors are those of this sample."
    ),
    "knn_accuracy": (
        "The share of rows whose label most of their ten neighbors on the map have; the map was fitted without labels."
    ),
    "topographic_error": (
        "The share of rows whose two most likely nodes are not neighbors on the grid: a sign of folds in the sheet."
    ),
    "used_nodes": "The number of nodes that the rows use, as the perplexity of their usage.",
    "noise_variance": (
        "The variance of each column around the sheet, in the model's units: the part that the map does not explain."
    ),
}
for _level in range(1, MOST_LEVELS + 1):
    HOW_TO_READ |= {
        f"rate_level_{_level}": (
            f"The part of the rate that belongs to level {_level}, given the levels above; level 1 is the top. Near "
            "0, the level is not used."
        ),
        f"active_units_level_{_level}": f"The active units among the dimensions of level {_level}.",
    }

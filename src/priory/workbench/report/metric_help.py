"""How to read each metric: one sentence for people who do not know it."""

from priory.workbench.settings.model import MOST_LEVELS

HOW_TO_READ = {
    "nll": (
        "-log p(x) of a row, in nats: lower is better; compare it with other models of the same data and likelihood."
    ),
    "bits_per_dimension": "The NLL in bits for each column: what a code by this model needs for one value.",
    "effective_sample_size": (
        "How many of a row's importance samples carry its estimate (the median): below 10 the NLL is too high "
        "by an unknown amount."
    ),
    "elbo": "The evidence lower bound of log p(x), in nats: higher is better; the NLL is below its negative.",
    "distortion": "-E log p(x | z), what the codes fail to say about the data, in nats: lower is better.",
    "rate": "KL(q(z | x) || p(z)), the length of a code in nats: the price of a lower distortion.",
    "index_code_mutual_information": "The part of the rate that tells rows apart, at most log N.",
    "mutual_information_upper_bound": "The same if there were infinitely many rows: the truth lies between the two.",
    "marginal_kl": (
        "The part of the rate that is wasted because the codes of all rows are not spread as the prior is: "
        "near 0 is best, and a learned prior lowers it."
    ),
    "aggregate_rows": "Rows, evenly spaced, whose codes make the aggregate posterior: all pairs would take too long.",
    "active_units": "Dimensions of z whose mean moves from row to row: the others carry nothing.",
    "prior_in_aggregate": (
        "The share of the prior's draws that lie where codes of data lie: 0.95 where there are no holes."
    ),
    "aggregate_in_prior": "The share of the codes that lie where the prior is likely: 0.95 where all are covered.",
    "effective_components": "Components of the prior that can be told apart, between 1 and their number.",
    "used_components": "Components that the data use, as the perplexity of their use.",
    "unused_weight": "The weight of components that the data hardly use: near 0 is best.",
    "log_normalizer": (
        "The logarithm of the prior's normalizer Z, by draws: its error moves the NLL of all rows by the same amount, "
        "and the error of the NLL does not contain it."
    ),
    "clusters": "Components of the prior that are the likeliest one of at least one row.",
    "nmi": (
        "The normalized mutual information of clusters and the first label, which training has not seen: 1 where they "
        "agree, near 0 by chance; it forgives classes that are split."
    ),
    "ari": "The adjusted Rand index of the same: 1 where they agree, 0 by chance; a split class lowers it.",
    "trustworthiness": "1 where rows that are neighbors on the map are neighbors in the data too; 0.5 is chance.",
    "pca_trustworthiness": (
        "The trustworthiness of the same rows on the plane of their first two principal components: a map should be "
        "above it."
    ),
    "continuity": (
        "1 where neighbors in the data are neighbors on the map too; it falls where the map tears them apart."
    ),
    "sampled_rows": (
        "Rows, drawn by lot, whose neighbors among all rows are compared: trustworthiness and continuity are means "
        "over them, and their errors are those of the lot."
    ),
    "knn_accuracy": (
        "How often most of a row's ten neighbors on the map have its label; the map has never seen a label."
    ),
    "topographic_error": (
        "The share of rows whose two likeliest nodes are no neighbors on the grid: folds of the sheet."
    ),
    "used_nodes": "Nodes that the rows use, as the perplexity of their use.",
    "noise_variance": (
        "The variance of each column about the sheet, in the model's units: what the map does not explain."
    ),
}
for _level in range(1, MOST_LEVELS + 1):
    HOW_TO_READ |= {
        f"rate_level_{_level}": (
            f"The part of the rate that level {_level} costs, given the levels above; level 1 is the top. Near 0 the "
            "level is not used."
        ),
        f"active_units_level_{_level}": f"The active units among the dimensions of level {_level}.",
    }

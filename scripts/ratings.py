"""python scripts/ratings.py --key results/rating_key.csv --output ratings.md anna.csv ben.csv

Puts what several people saved on the rating page into one table: the mean rating of each method with its interval, and
how far the raters agree.
"""

from bico.evaluate.rating import read_ratings, write_ratings
from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("ratings", nargs="+", help="the files that raters saved")
    arguments.add_argument("--key", required=True, help="rating_key.csv of the study")
    arguments.add_argument("--output", required=True, help="the table, .md")
    given = arguments.parse_args()
    write_ratings(given.output, read_ratings(given.key, given.ratings))


if __name__ == "__main__":
    run(main)

"""The merchandiser's daily page: what we did, why, what it cost, what it earned, how sure we are.

``data.py`` reads a window's tables once and cuts them by day; ``charts.py`` draws inline SVG;
``page.py`` fills the template. One file a day, self-contained, no network.
"""

"""Measurements of face datasets by a recogniser: are the identities apart, and is each one itself?

    from v2f_engine.evaluate.features import read_features
    from v2f_engine.evaluate.separability import calibrate, measure_separability
    from v2f_engine.evaluate.consistency import measure_consistency

    real, made = (read_features(source, judge) for source in (dataset, engine.images(ids, 10)))
    limit = calibrate(real, fmr=1e-5).threshold
    measure_separability(made, threshold=limit).to_json()

Whatever is measured is a statement by one recogniser: name it, and judge with one that neither trained nor
steered the generator.
"""

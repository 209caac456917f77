"""A procedural world of clips small enough to train models of on a laptop: `scene` draws it, `captions` describes it
in words, `oracle` says from pixels alone what a clip shows, `colour` measures colours.

A clip is 81 frames of 64 x 64 pixels: one or two subjects, each of a shape, colour, texture, size and motion, in one
style, on one background, under one light. Words are coarse: shade, texture frequency and angle, speed, reach, phase and
place differ from scene to scene and stand in no caption. These are what binding has to learn from an example.

    rng = numpy.random.default_rng(0)
    scene = sample_scene(rng)                # a clip is render(scene), its frame k is render(scene, [k])[0]
    text, words = caption(scene, rng)        # of frame k: caption(scene, rng, k)
    phrases = phrases_of(words_of(scene))    # what a concept extractor should answer
    seen = read_clip(frames)                 # of a generated clip, say
    agreement(words, seen.words)             # attribute by attribute; for any prompt: agreement(parse(prompt), ...)
    colour_distance(seen.subjects[0].shade, reference.subjects[0].shade)
    motion_match(in_pixels(seen.subjects[0].pose), in_pixels(reference.subjects[0].pose))

`benchmark` measures binding in it. `training` has the models of this world, `python toyworld/scripts/train.py --help`
trains them; `tiny` has random ones for tests.

docs/world.jpg shows some scenes; `python toyworld/scripts/sheet.py --output docs/world.jpg` draws it.
"""

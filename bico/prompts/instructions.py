"""What a vision-language model is told before it names concepts or writes prompts, by the kind of media."""

CONCEPT_SYSTEM = {
    "image": """\
You are an annotator of visual concepts. You are shown one image. Name the visual concepts that make it up, so that \
each can be learned under its name and reused in other pictures.
Spatial concepts are what can be seen: objects and characters, their colours and materials, and the style of the image.
Each concept is a brief, concrete word or phrase in English, and names one thing. Leave out vague ones, such as \
"background", "scene" or "object", and anything you cannot see.
Answer with one strict JSON object and nothing else, like this:
{"spatial": ["corgi puppy", "red knitted scarf", "watercolor style"]}""",
    "video": """\
You are an annotator of visual concepts. You are shown one video. Name the visual concepts that make it up, so that \
each can be learned under its name and reused in other videos.
Spatial concepts are what a single frame shows: objects and characters, their colours and materials, and the style.
Temporal concepts are what only the sequence shows: motions, transitions, and changes of the viewpoint.
Each concept is a brief, concrete word or phrase in English, and names one thing. Leave out vague ones, such as \
"background", "scene" or "movement", and anything you cannot see.
Answer with one strict JSON object and nothing else, like this:
{"spatial": ["young woman", "yellow raincoat"], "temporal": ["spins around slowly", "camera pans to the left"]}""",
}
PROMPT_SYSTEM = {
    "image": """\
You are a writer of prompts for an image generator. You are shown one image and a list of its spatial concepts. \
Write one prompt that describes the image.
The prompt is one concise sentence in English that uses every given concept and matches the image. You may put the \
concepts in any order and choose the sentence around them freely, but keep the words of each concept as they are given.
Answer with the sentence alone: no quotation marks, no list, no explanation.""",
    "video": """\
You are a writer of prompts for a video generator. You are shown one video and a list of its spatial and temporal \
concepts. Write one prompt that describes the video.
The prompt is one concise sentence in English that uses every given concept, matches the video, and says what moves \
and how. You may put the concepts in any order and choose the sentence around them freely, but keep the words of each \
concept as they are given.
Answer with the sentence alone: no quotation marks, no list, no explanation.""",
}

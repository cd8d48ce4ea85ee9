import { mount } from 'svelte';

import App from './App.svelte';
import { restore } from './state/location.svelte.ts';
import { applyTheme } from './state/prefs.svelte.ts';
import './styles.css';

applyTheme();
void restore().then(() => mount(App, { target: document.getElementById('app') as HTMLElement }));

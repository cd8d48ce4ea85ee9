import { mount } from 'svelte';

import App from './App.svelte';
import { applyTheme } from './state/prefs.svelte.ts';
import './styles.css';

applyTheme();
mount(App, { target: document.getElementById('app') as HTMLElement });

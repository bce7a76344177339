import { keysOpen } from "../state/open";
import { lettersOn, shortcuts } from "../state/keys";
import { Dialog } from "./dialog";

const NAMES: Readonly<Record<string, string>> = { Escape: "Esc" };

/** The list of keys. */
export function Keys() {
  if (!keysOpen.value) return null;
  return (
    <Dialog title="Keys" onClose={() => (keysOpen.value = false)}>
      <div class="stack">
        <table class="data">
          <thead>
            <tr>
              <th scope="col">Key</th>
              <th scope="col">Does</th>
            </tr>
          </thead>
          <tbody>
            {shortcuts().map(({ key, does }) => (
              <tr key={key}>
                <td><kbd>{NAMES[key] ?? key.toUpperCase()}</kbd></td>
                <td>{does}</td>
              </tr>
            ))}
            <tr>
              <td><kbd>Ctrl</kbd> or <kbd>⌘</kbd> with <kbd>Enter</kbd></td>
              <td>Send the message</td>
            </tr>
            <tr>
              <td><kbd>←</kbd> <kbd>→</kbd>, <kbd>Page Up</kbd> <kbd>Page Down</kbd></td>
              <td>Turn a dial by 0.05, by 0.25</td>
            </tr>
            <tr>
              <td><kbd>Home</kbd> <kbd>End</kbd>, <kbd>0</kbd></td>
              <td>Turn a dial to the ends of its safe range, to 0</td>
            </tr>
          </tbody>
        </table>
        <label class="check">
          <input type="checkbox" checked={lettersOn.value} onChange={(event) => (lettersOn.value = event.currentTarget.checked)} />
          Single letters are shortcuts
        </label>
      </div>
    </Dialog>
  );
}

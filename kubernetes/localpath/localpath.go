// Package localpath gives every claim of a volume a folder of the node its pod was placed on. It is the small part that upstream
// has no importable package for; watching, retrying and writing volumes is upstream's library.
//
// It runs once on each node (a DaemonSet) and makes folders itself, so that no pod with a shell has to be started for it. The size
// that a claim asks for is not enforced: a folder can grow as large as its file system.
package localpath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// nodeAnnotation says on a volume which node's provisioner made it, and so which may delete it.
const nodeAnnotation = "local-path.ingot.local/node"

// selectedNode is where the scheduler writes its choice for a claim (WaitForFirstConsumer).
const selectedNode = "volume.kubernetes.io/selected-node"

// provisioner makes and removes folders of one node.
type provisioner struct {
	node string
	// path is where the folders are, as the node sees it.
	path string
	// root is the same folder; nothing outside can be reached through it, whatever links a pod left behind.
	root *os.Root
	// hostname is the node's label of that name, which need not be the node's name.
	hostname func(context.Context) (string, error)
}

// NewCommand is the whole program.
func NewCommand() *cobra.Command {
	var node, path, name string
	command := &cobra.Command{
		Use:          "local-path-provisioner",
		Short:        "Gives claims of volumes folders of this node",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			return run(node, path, name)
		},
	}
	flags := command.Flags()
	flags.StringVar(&node, "node-name", os.Getenv("NODE_NAME"), "the node's name in the cluster; $NODE_NAME by default")
	flags.StringVar(&path, "directory", "/var/lib/local-path-provisioner", "where the folders are made, on the node and in here")
	flags.StringVar(&name, "provisioner-name", "ingot.local/local-path", "provisioner of the storage classes to serve")
	return command
}

func run(node, path, name string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API server; this program runs in a pod: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	made, err := newProvisioner(node, path, func(ctx context.Context) (string, error) {
		found, err := client.CoreV1().Nodes().Get(ctx, node, meta.GetOptions{})
		if err != nil {
			return "", err
		}
		return found.Labels[core.LabelHostname], nil
	})
	if err != nil {
		return err
	}
	ctx := klog.NewContext(genericapiserver.SetupSignalContext(), klog.Background())
	// No leader: each instance serves the claims of its own node.
	controller.NewProvisionController(ctx, client, name, made,
		controller.LeaderElection(false), controller.Threadiness(1), controller.ResyncPeriod(15*time.Minute)).Run(ctx)
	return nil
}

func newProvisioner(node, path string, hostname func(context.Context) (string, error)) (*provisioner, error) {
	if node == "" {
		return nil, errors.New("--node-name is missing, and NODE_NAME is not set")
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("--directory must be an absolute path, not %q", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder of all volumes: %w", err)
	}
	return &provisioner{node: node, path: filepath.Clean(path), root: root, hostname: hostname}, nil
}

// ShouldProvision takes the claims whose pod was placed on this node.
func (p *provisioner) ShouldProvision(_ context.Context, claim *core.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == p.node
}

// ShouldDelete takes the volumes that this node made.
func (p *provisioner) ShouldDelete(_ context.Context, volume *core.PersistentVolume) bool {
	return volume.Annotations[nodeAnnotation] == p.node
}

// Provision makes the folder and describes it. It may be called again for the same volume after a crash.
func (p *provisioner) Provision(ctx context.Context, options controller.ProvisionOptions) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if options.PVC.Spec.VolumeMode != nil && *options.PVC.Spec.VolumeMode == core.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("folders are no block devices; use volumeMode Filesystem")
	}
	if options.PVC.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("a claim with a selector asks for a volume that is there already")
	}
	if err := p.root.Mkdir(options.PVName, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, controller.ProvisioningFinished, fmt.Errorf("make the folder of the volume: %w", err)
	}
	// Not by the mode of Mkdir: the umask takes rights away. Pods of any user write here, and only they reach it.
	if err := p.root.Chmod(options.PVName, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("open the folder of the volume to its pod: %w", err)
	}
	hostname, err := p.hostname(ctx)
	if err == nil && hostname == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("read the label %s of node %s: %w", core.LabelHostname, p.node, err)
	}
	return p.describe(options, hostname), controller.ProvisioningFinished, nil
}

func (p *provisioner) describe(options controller.ProvisionOptions, hostname string) *core.PersistentVolume {
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: options.PVName, Annotations: map[string]string{nodeAnnotation: p.node}},
	}
	volume.Spec.PersistentVolumeReclaimPolicy = *options.StorageClass.ReclaimPolicy
	volume.Spec.AccessModes = options.PVC.Spec.AccessModes
	volume.Spec.VolumeMode = options.PVC.Spec.VolumeMode
	volume.Spec.Capacity = core.ResourceList{
		core.ResourceStorage: options.PVC.Spec.Resources.Requests[core.ResourceStorage],
	}
	volume.Spec.HostPath = &core.HostPathVolumeSource{Path: filepath.Join(p.path, options.PVName)}
	// By label: scheduler and kubelet compare a volume's terms with labels only, and no fields.
	here := core.NodeSelectorRequirement{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{hostname}}
	terms := []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}}
	volume.Spec.NodeAffinity = &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: terms}}
	return volume
}

// Delete removes the folder with all that is in it.
func (p *provisioner) Delete(_ context.Context, volume *core.PersistentVolume) error {
	if volume.Spec.HostPath == nil || filepath.Dir(volume.Spec.HostPath.Path) != p.path {
		return fmt.Errorf("the volume %s is no folder of %s", volume.Name, p.path)
	}
	return p.root.RemoveAll(filepath.Base(volume.Spec.HostPath.Path))
}

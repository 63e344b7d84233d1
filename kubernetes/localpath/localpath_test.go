package localpath

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func onNode(t *testing.T) *provisioner {
	t.Helper()
	made, err := newProvisioner("n1", t.TempDir(), func(context.Context) (string, error) { return "host-1", nil })
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func claim() controller.ProvisionOptions {
	keep := core.PersistentVolumeReclaimDelete
	return controller.ProvisionOptions{
		PVName:       "pvc-1",
		PVC:          &core.PersistentVolumeClaim{ObjectMeta: meta.ObjectMeta{Annotations: map[string]string{selectedNode: "n1"}}},
		StorageClass: &storage.StorageClass{ReclaimPolicy: &keep},
	}
}

func TestAVolumeIsAFolderThatEveryUserMayWriteToAndThatIsBoundToItsNode(t *testing.T) {
	node := onNode(t)
	for range 2 { // again, as after a crash between the folder and the volume
		volume, _, err := node.Provision(context.Background(), claim())
		if err != nil {
			t.Fatal(err)
		}
		about, err := os.Stat(volume.Spec.HostPath.Path)
		if err != nil || about.Mode().Perm() != 0o777 {
			t.Fatalf("%v %v", about, err)
		}
		term := volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]
		if term.Key != core.LabelHostname || term.Values[0] != "host-1" {
			t.Fatalf("%v", term)
		}
		if !node.ShouldDelete(context.Background(), volume) {
			t.Fatal("the node that made a volume must delete it")
		}
	}
}

func TestDeletingAVolumeLeavesWhatItsLinksPointToAndItsNeighbours(t *testing.T) {
	node := onNode(t)
	volume, _, err := node.Provision(context.Background(), claim())
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "precious")
	neighbour := filepath.Join(node.path, "pvc-2")
	for _, file := range []string{outside, neighbour} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(volume.Spec.HostPath.Path, "link")); err != nil {
		t.Fatal(err)
	}
	if err := node.Delete(context.Background(), volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(volume.Spec.HostPath.Path); !os.IsNotExist(err) {
		t.Fatalf("still there: %v", err)
	}
	for _, file := range []string{outside, neighbour} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAVolumeOfAnotherFolderIsNotDeleted(t *testing.T) {
	node := onNode(t)
	for _, path := range []string{"/etc", node.path, filepath.Join(node.path, "a/b"), "/"} {
		volume := &core.PersistentVolume{}
		volume.Spec.HostPath = &core.HostPathVolumeSource{Path: path}
		if node.Delete(context.Background(), volume) == nil {
			t.Errorf("%s", path)
		}
	}
}

func TestClaimsOfOtherNodesAndBlockDevicesAreLeft(t *testing.T) {
	node := onNode(t)
	other := claim()
	other.PVC.Annotations[selectedNode] = "n2"
	if node.ShouldProvision(context.Background(), other.PVC) || !node.ShouldProvision(context.Background(), claim().PVC) {
		t.Error("a node serves its own claims")
	}
	block := claim()
	mode := core.PersistentVolumeBlock
	block.PVC.Spec.VolumeMode = &mode
	if _, _, err := node.Provision(context.Background(), block); err == nil {
		t.Error("a folder is no block device")
	}
}
